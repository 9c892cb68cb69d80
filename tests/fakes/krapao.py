"""A `Krapao` in memory, for the tests of what uses one. Held to tests/contract/krapao_contract.py like the real ones.

    krapao = FakeKrapao()
    origin = krapao.add_origin("https://git.example/app.git")
    revision = origin.commit({"secret.enc.yaml": [{"kind": "Secret", ...}]})
    async with krapao.open(Source(origin.url), GitCredentials()) as repository: ...

`origin.fail = Failure(...)` makes the host fail, `krapao.gate` holds every call until it is set, and `krapao.calls`
tells what was asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import attrs
import trio

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.rpc.contract import Encryption, GitCredentials, Head, Rendered, RenderRequest, Repository, Source
from jiemi.rpc.keys import AgeKey, DecryptionKey, VaultKey

RIGHT_KEY = AgeKey(SensitiveText("AGE-SECRET-KEY-FAKE-RIGHT"))
"""What opens every file of an origin, unless the origin says otherwise."""

SOPS_PATH = ".sops.yaml"
"""A file that every commit has."""

Documents = Sequence[object]


@attrs.define
class FakeOrigin:
    """A repository on a host.

    Attributes:
        url: where it is.
        refs: "HEAD", "branch NAME" or "tag NAME" to revision.
        files: revision to path to documents; a Failure in place of the documents is what rendering that file tells.
        keys: any of them opens the files.
        encryption: what every file says of its encryption.
        vault_address: the Vault server that every file names; any VaultKey that may go there opens it.
        fail: what the host answers instead of a revision.
        asked: how often the host was asked for a revision.
    """

    url: str
    refs: dict[str, str] = attrs.field(factory=dict)
    files: dict[str, dict[str, Documents | Failure]] = attrs.field(factory=dict)
    keys: tuple[DecryptionKey, ...] = (RIGHT_KEY,)
    encryption: Encryption = Encryption()
    vault_address: str | None = None
    fail: Failure | None = None
    asked: int = 0

    def commit(self, files: Mapping[str, Documents | Failure], *, branch: str | None = None) -> str:
        """A new commit of these files, on HEAD and the branch main or on another branch. Returns its revision."""
        parent = self.refs.get(f"branch {branch}" if branch else "HEAD")
        everything = {**(self.files[parent] if parent else {}), **files}
        revision = hashlib.sha1(f"{self.url} {len(self.files)}".encode(), usedforsecurity=False).hexdigest()
        self.files[revision] = everything
        for ref in (f"branch {branch}",) if branch else ("HEAD", "branch main"):
            self.refs[ref] = revision
        return revision

    def tag(self, name: str, revision: str) -> None:
        self.refs[f"tag {name}"] = revision


class FakeKrapao:
    """See the module.

    Attributes:
        gate: every head and render waits for it first. Set from the start.
        calls: ("head", url) and ("render", url, path), in their order.
        requests: what was asked to be rendered, in its order.
        opened: how many repositories are open now.
        running: how many heads and renders run now.
        watching: how many watches run now.
    """

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.calls: list[tuple[str, ...]] = []
        self.requests: list[RenderRequest] = []
        self.credentials: list[GitCredentials] = []
        self.opened = 0
        self.running = 0
        self.watching = 0
        self._origins: dict[str, FakeOrigin] = {}
        self._seen: dict[Source, tuple[str, float]] = {}
        self._watchers: dict[Source, list[Callable[[Head], None]]] = {}

    def add_origin(self, url: str) -> FakeOrigin:
        return self._origins.setdefault(url, FakeOrigin(url))

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials) -> AsyncIterator[Repository]:
        self.opened += 1
        self.credentials.append(credentials)
        try:
            yield _FakeRepository(self, source)
        finally:
            self.opened -= 1

    @contextlib.asynccontextmanager
    async def _call(self, *call: str) -> AsyncIterator[None]:
        self.calls.append(call)
        self.running += 1
        try:
            await self.gate.wait()
            await trio.lowlevel.checkpoint()
            yield
        finally:
            self.running -= 1

    def _origin(self, source: Source) -> FakeOrigin:
        if source.url not in self._origins:
            raise JiemiError("RepositoryNotFound", f"there is no repository at {source.url}")
        return self._origins[source.url]

    def _head(self, source: Source, max_age_seconds: float) -> Head:
        now = trio.current_time()
        if source in self._seen:
            revision, seen_at = self._seen[source]
            if max_age_seconds > 0 and now - seen_at <= max_age_seconds:
                return Head(revision)
        origin = self._origin(source)
        origin.asked += 1
        if origin.fail is not None:
            raise JiemiError.of(origin.fail)
        ref = f"branch {source.branch}" if source.branch else f"tag {source.tag}" if source.tag else "HEAD"
        if ref not in origin.refs:
            raise JiemiError("RefNotFound", f"{source.url} has no {ref}")
        moved = source in self._seen and self._seen[source][0] != origin.refs[ref]
        self._seen[source] = (origin.refs[ref], now)
        head = Head(origin.refs[ref])
        if moved:
            for on_moved in list(self._watchers.get(source, ())):
                on_moved(head)
        return head

    def _render(self, source: Source, request: RenderRequest) -> Rendered:
        self.requests.append(request)
        origin = self._origin(source)
        if request.revision not in origin.files:
            raise JiemiError("RevisionNotFound", f"{source.url} has no revision {request.revision}")
        files = origin.files[request.revision]
        if request.sops_path is not None and request.sops_path not in {*files, SOPS_PATH}:
            raise JiemiError("FileNotFound", f"there is no file {request.sops_path}")
        if request.path not in files:
            raise JiemiError("FileNotFound", f"there is no file {request.path}")
        documents = files[request.path]
        if isinstance(documents, Failure):
            raise JiemiError.of(documents)
        trusted = None
        vault = next((key for key in request.keys if isinstance(key, VaultKey)), None)
        if vault is not None and origin.vault_address is not None:
            named = vault.address.reveal() if vault.address is not None else vault.pinned_address
            if named not in (None, origin.vault_address):
                raise JiemiError("DestinationNotAllowed", f"the file names the Vault {origin.vault_address}")
            trusted = origin.vault_address if named is None else None
        elif not any(key in origin.keys for key in request.keys):
            raise JiemiError("KeyMissing", f"none of {len(request.keys)} keys opens {request.path}")
        if request.whole_file:
            [text] = documents
            content = SensitiveBytes(str(text).encode())
            return Rendered(request.revision, (), content, origin.encryption, trusted)
        rendered = tuple(SensitiveBytes(json.dumps(each).encode()) for each in documents)
        return Rendered(request.revision, rendered, None, origin.encryption, trusted)


class _FakeRepository:
    def __init__(self, krapao: FakeKrapao, source: Source) -> None:
        self._krapao = krapao
        self._source = source

    async def head(self, *, max_age_seconds: float) -> Head:
        async with self._krapao._call("head", self._source.url):
            return self._krapao._head(self._source, max_age_seconds)

    async def render(self, request: RenderRequest) -> Rendered:
        async with self._krapao._call("render", self._source.url, request.path):
            return self._krapao._render(self._source, request)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        watchers = self._krapao._watchers.setdefault(self._source, [])
        watchers.append(on_moved)
        self._krapao.watching += 1
        try:
            await trio.sleep_forever()
        finally:
            self._krapao.watching -= 1
            watchers.remove(on_moved)
