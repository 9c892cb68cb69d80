"""A `Krapao` in memory, for the tests of what uses one. Held to tests/contract/krapao_contract.py like the real ones.

    krapao = FakeKrapao()
    origin = krapao.add_origin("https://git.example/app.git")
    revision = origin.commit({"secret.enc.yaml": [{"kind": "Secret", ...}]})
    async with krapao.open(Source(origin.url), GitCredentials()) as repository: ...

`origin.fail = Failure(...)` makes the host fail, `krapao.gate` holds every call until it is set, and `krapao.calls`
tells what was asked. A file in `Plain(...)` is not encrypted; `origin.commit({}, remove=["old.yaml"])` takes one out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

import attrs
import trio

from jiemi.core.content.globs import is_excluded, is_glob, matches_path
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.krapao.git.tag_range import newest_tag
from jiemi.rpc.contract import (
    MAX_FILES,
    Changes,
    Encryption,
    FileEntry,
    Files,
    FilesRequest,
    Head,
    Rendered,
    RenderRequest,
    Repository,
    is_revision,
    require_tenant,
)
from jiemi.rpc.keys import AgeKey, DecryptionKey, VaultKey
from jiemi.rpc.open_repositories import Refused
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Signer, Verified

RIGHT_KEY = AgeKey(SensitiveText("AGE-SECRET-KEY-FAKE-RIGHT"))
"""What opens every file of an origin, unless the origin says otherwise."""

SOPS_PATH = ".sops.yaml"
"""A file that every commit has."""


Documents = Sequence[object]


@attrs.frozen
class Plain:
    """A file that is not encrypted."""

    documents: Documents


@attrs.frozen
class Mixed:
    """A file of which some documents are not encrypted.

    Attributes:
        plain: indexes of those.
    """

    documents: Documents
    plain: tuple[int, ...]


Content = Documents | Plain | Mixed | Failure


def _hash(*parts: object) -> str:
    return hashlib.sha1(repr(parts).encode(), usedforsecurity=False).hexdigest()


@attrs.define
class FakeOrigin:
    """A repository on a host.

    Attributes:
        url: where it is.
        refs: "HEAD", "branch NAME" or "tag NAME" to revision.
        files: revision to path to documents; in `Plain` where the file is not encrypted. A Failure in their place is
            what rendering that file tells.
        config: the hash that every file has as that of its .sops.yaml; or None.
        configs: revision to the hash that this was when it was committed.
        direct: what each listing says of symbolic links.
        keys: any of them opens the files.
        encryption: what every file says of its encryption.
        values: what texts decrypt to that stand for SOPS files inside of values; looked for in `stringData` only.
        carriage_returns: by path, names of values that hold one.
        vault_address: the Vault server that every file names; any VaultKey that may go there opens it.
        signers: by revision, the name of the entry with the public key that signed it.
        fail: what the host answers instead of a revision.
        asked: how often the host was asked for a revision.
    """

    url: str
    refs: dict[str, str] = attrs.field(factory=dict)
    files: dict[str, dict[str, Content]] = attrs.field(factory=dict)
    config: str | None = _hash(SOPS_PATH)
    configs: dict[str, str | None] = attrs.field(factory=dict)
    direct: bool = True
    keys: tuple[DecryptionKey, ...] = (RIGHT_KEY,)
    encryption: Encryption = Encryption(mac_only_encrypted=False)
    values: dict[str, str] = attrs.field(factory=dict)
    carriage_returns: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    vault_address: str | None = None
    signers: dict[str, str] = attrs.field(factory=dict)
    fail: Failure | None = None
    asked: int = 0

    def commit(self, files: Mapping[str, Content], *, branch: str | None = None, remove: Collection[str] = ()) -> str:
        """A new commit of these files, on HEAD and the branch main or on another branch. Returns its revision.

        Args:
            files: beside those of the commit before.
            remove: paths of the commit before that this one has no more.
        """
        parent = self.refs.get(f"branch {branch}" if branch else "HEAD")
        everything = {**(self.files[parent] if parent else {}), **files}
        everything = {path: content for path, content in everything.items() if path not in remove}
        revision = hashlib.sha1(f"{self.url} {len(self.files)}".encode(), usedforsecurity=False).hexdigest()
        self.files[revision] = everything
        self.configs[revision] = self.config
        for ref in (f"branch {branch}",) if branch else ("HEAD", "branch main"):
            self.refs[ref] = revision
        return revision

    def move_to(self, revision: str) -> None:
        """Let HEAD and the branch main name an earlier revision, as a forced push does."""
        self.refs |= {"HEAD": revision, "branch main": revision}

    def tag(self, name: str, revision: str) -> None:
        self.refs[f"tag {name}"] = revision

    def entry(self, revision: str, path: str) -> FileEntry:
        """A file of a revision. Its blob's hash is the same as long as its content is."""
        if path == SOPS_PATH and path not in self.files[revision]:
            return FileEntry(path, _hash(SOPS_PATH), self.config)
        content = self.files[revision][path]
        shown = json.dumps(attrs.astuple(content) if isinstance(content, Plain | Mixed) else content, default=repr)
        return FileEntry(path, _hash(path, isinstance(content, Plain), shown), self.config)


_PREFIXES = {"branch ": "refs/heads/", "tag ": "refs/tags/"}
"""What the full name of a ref begins with, by how it is called here."""


def _full_name(ref: str) -> str:
    for short, full in _PREFIXES.items():
        if ref.startswith(short):
            return full + ref.removeprefix(short)
    return ref


def _followed(source: Source, refs: Collection[str]) -> str:
    """What a source follows, as it is called here."""
    if source.branch:
        return f"branch {source.branch}"
    if source.tag:
        return f"tag {source.tag}"
    if source.name:
        return next((ref for ref in refs if _full_name(ref) == source.name), source.name)
    if source.tags:
        tags = [ref.removeprefix("tag ") for ref in refs if ref.startswith("tag ")]
        return f"tag {newest_tag(source.tags, tags, source.url)}"
    return "HEAD"


class FakeKrapao:
    """See the module.

    Args:
        origins: the repositories on hosts, by URL; those of another fake are shared with it.

    Attributes:
        gate: every head, files and render waits for it first. Set from the start.
        calls: ("head", url), ("verify", url), ("files", url) and ("render", url, path), in their order.
        requests: what was rendered, or should have been, of revisions that are signed as they have to be.
        files_requests: which files were asked for, in its order.
        tenants: for whom repositories were opened, in their order.
        opened: how many repositories are open now.
        running: how many heads, files and renders run now.
        watching: how many watches run now.
        knows_formats: whether it obeys a stated format. Releases before there was one do not.
        held: methods whose calls wait until `let_go`.
        knows_changes: whether it compares revisions. Releases before that was asked do not.
    """

    def __init__(self, origins: dict[str, FakeOrigin] | None = None) -> None:
        self.origins = origins if origins is not None else {}
        self.gate = trio.Event()
        self.gate.set()
        self.calls: list[tuple[str, ...]] = []
        self.requests: list[RenderRequest] = []
        self.files_requests: list[FilesRequest] = []
        self.credentials: list[GitCredentials] = []
        self.tenants: list[str] = []
        self.opened = 0
        self.running = 0
        self.watching = 0
        self.knows_formats = True
        self.knows_changes = True
        self.held: Collection[str] = ()
        self._released = trio.Event()
        self._seen: dict[Source, tuple[Head, float]] = {}
        self._named: dict[str, set[str]] = {}
        self._watchers: dict[Source, list[Callable[[Head], None]]] = {}

    def add_origin(self, url: str) -> FakeOrigin:
        return self.origins.setdefault(url, FakeOrigin(url))

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        self.opened += 1
        self.credentials.append(credentials)
        self.tenants.append(tenant)
        try:
            require_tenant(tenant)
        except JiemiError as error:
            opened: Repository = Refused(error.failure)
        else:
            opened = _FakeRepository(self, source)
        try:
            yield opened
        finally:
            self.opened -= 1

    @contextlib.asynccontextmanager
    async def _call(self, *call: str) -> AsyncIterator[None]:
        self.calls.append(call)
        self.running += 1
        try:
            await self.gate.wait()
            while call[0] in self.held:
                await self._released.wait()
            await trio.lowlevel.checkpoint()
            yield
        finally:
            self.running -= 1

    def let_go(self) -> None:
        """Answer the calls that were held, and hold no more."""
        self.held = ()
        self._released.set()
        self._released = trio.Event()

    def forget(self) -> None:
        """Forget what hosts said, as a Krapao that is restarted does."""
        self._seen.clear()
        self._named.clear()

    def _origin(self, source: Source) -> FakeOrigin:
        if source.url not in self.origins:
            raise JiemiError("RepositoryNotFound", f"there is no repository at {source.url}")
        return self.origins[source.url]

    def _head(self, source: Source, max_age_seconds: float) -> Head:
        now = trio.current_time()
        if source in self._seen:
            head, seen_at = self._seen[source]
            if max_age_seconds > 0 and now - seen_at <= max_age_seconds:
                return head
        origin = self._origin(source)
        origin.asked += 1
        if origin.fail is not None:
            raise JiemiError.of(origin.fail)
        if source.commit is not None:
            # The host is asked whether it lets the tenant in; that it has the commit shows when it is fetched.
            if not is_revision(source.commit):
                raise JiemiError("RefNotFound", "spec.source.repository.ref.commit is no full commit hash")
            head = Head(source.commit)
            self._seen[source] = (head, now)
            self._named.setdefault(source.url, set()).add(source.commit)
            return head
        ref = _followed(source, origin.refs)
        if ref not in origin.refs:
            raise JiemiError("RefNotFound", f"{source.url} has no {ref}")
        head = Head(origin.refs[ref], _full_name(ref))
        moved = source in self._seen and self._seen[source][0].revision != head.revision
        self._seen[source] = (head, now)
        self._named.setdefault(source.url, set()).add(head.revision)
        if moved:
            for on_moved in list(self._watchers.get(source, ())):
                on_moved(head)
        return head

    def _revision(self, source: Source, revision: str) -> tuple[FakeOrigin, dict[str, Content]]:
        origin = self._origin(source)
        # Only what the host has named is looked at.
        if revision not in self._named.get(source.url, ()) and is_revision(revision):
            self._head(source, 0)
        if revision not in origin.files or revision not in self._named.get(source.url, ()):
            reason = "RefNotFound" if revision == source.commit else "RevisionNotFound"
            raise JiemiError(reason, f"{source.url} has no revision {revision}")
        return origin, origin.files[revision]

    def _verify(self, source: Source, revision: str) -> Verified:
        """What is signed by one of the entries with public keys counts as signed by all it should be."""
        assert source.verification is not None
        origin, _ = self._revision(source, revision)
        by = origin.signers.get(revision)
        if by is None:
            raise JiemiError("SignatureMissing", f"commit {revision[:12]}: it is not signed")
        if by not in [each.name for each in source.verification.keys]:
            raise JiemiError("SignerUnknown", f"commit {revision[:12]}: it is signed by the key {by}")
        mode, signer = source.verification.mode, Signer(by, f"SHA256:{by}")
        tag = signer if mode.wants_tag else None
        ref = f"refs/tags/{source.tag}" if mode.wants_tag else None
        return Verified(revision, signer if mode.wants_commit else None, tag, ref)

    def _files(self, source: Source, request: FilesRequest) -> Files:
        self.files_requests.append(request)
        origin, files = self._revision(source, request.revision)
        found: dict[str, FileEntry] = {}
        for pattern in request.patterns:
            for path in _matching(files, pattern, request.exclude):
                found[path] = origin.entry(request.revision, path)
        if len(found) > MAX_FILES:
            raise JiemiError("LimitExceeded", f"spec.source.files: {len(found)} files match, of {MAX_FILES} at most")
        return Files(request.revision, tuple(found[path] for path in sorted(found)), origin.direct)

    def _changes(self, source: Source, before: str, after: str) -> Changes:
        if not self.knows_changes:
            raise JiemiError(
                "ProviderNotSupportedYet", "Krapao is of an older release than Miwen and does not know this"
            )
        origin, files = self._revision(source, after)
        if before not in self._named.get(source.url, ()) or before not in origin.files:
            raise JiemiError("RevisionNotFound", f"{source.url} has no revision {before}")
        old = {origin.entry(before, path) for path in origin.files[before]}
        new = {origin.entry(after, path) for path in files}
        is_config = origin.configs[before] != origin.configs[after]
        return Changes(tuple(sorted({each.path for each in old ^ new})), ("",) if is_config else ())

    def _render(self, source: Source, request: RenderRequest) -> Rendered:
        self.requests.append(request)
        origin, files = self._revision(source, request.revision)
        if request.sops_path is not None and _in_tree(request.sops_path) not in {*files, SOPS_PATH}:
            raise JiemiError("FileNotFound", f"there is no file {request.sops_path}")
        if request.path not in files:
            raise JiemiError("FileNotFound", f"there is no file {request.path}")
        content = files[request.path]
        if isinstance(content, Failure):
            raise JiemiError.of(content)
        if isinstance(content, Plain):
            if not request.allow_plain:
                raise JiemiError("NotEncrypted", f"{request.path}: the file has no sops block")
            return _rendered(origin, request, content.documents, None, encrypted=False)
        plain: tuple[int, ...] = ()
        documents = content.documents if isinstance(content, Mixed) else content
        if isinstance(content, Mixed):
            plain = content.plain
            if not request.allow_plain:
                raise JiemiError("NotEncrypted", f"{request.path}: document {plain[0] + 1}: it is not encrypted")
        if request.require_full_mac and origin.encryption.mac_only_encrypted:
            raise JiemiError("MacOnlyEncrypted", f"{request.path}: the file has mac_only_encrypted")
        trusted = None
        vault = next((key for key in request.keys if isinstance(key, VaultKey)), None)
        if vault is not None and origin.vault_address is not None:
            named = vault.address.reveal() if vault.address is not None else vault.pinned_address
            if named not in (None, origin.vault_address):
                raise JiemiError("DestinationNotAllowed", f"the file names the Vault {origin.vault_address}")
            trusted = origin.vault_address if named is None else None
        elif not any(key in origin.keys for key in request.keys):
            raise JiemiError("KeyMissing", f"none of {len(request.keys)} keys opens {request.path}")
        return attrs.evolve(_rendered(origin, request, documents, trusted, encrypted=True), plain_documents=plain)


def _rendered(
    origin: FakeOrigin, request: RenderRequest, documents: Documents, trusted: str | None, *, encrypted: bool
) -> Rendered:
    encryption = origin.encryption if encrypted else Encryption()
    if request.whole_file:
        [text] = documents
        content = SensitiveBytes(str(text).encode())
        return Rendered(request.revision, (), content, encryption, trusted, encrypted)
    trees = json.loads(json.dumps(list(documents)))
    opened = sum(_open_values(origin, tree, request) for tree in trees)
    rendered = tuple(SensitiveBytes(json.dumps(each).encode()) for each in trees)
    if opened and not encrypted:
        encryption = origin.encryption
    returns = origin.carriage_returns.get(request.path, ())
    return Rendered(request.revision, rendered, None, encryption, trusted, encrypted, opened, returns)


def _open_values(origin: FakeOrigin, tree: object, request: RenderRequest) -> int:
    """How many texts of stringData were decrypted in their place."""
    if not isinstance(tree, dict) or not any("stringData" in each.texts for each in request.nested):
        return 0
    texts = tree.get("stringData") or {}
    found = [key for key, text in texts.items() if text in origin.values]
    for key in found:
        texts[key] = origin.values[texts[key]]
    return len(found)


def _matching(files: Collection[str], pattern: str, exclude: Sequence[str]) -> Iterator[str]:
    """The paths that a pattern takes."""
    if is_glob(pattern):
        for path in files:
            config = path.rsplit("/", 1)[-1] == SOPS_PATH
            if matches_path(path, pattern) and not config and not is_excluded(path, exclude):
                yield path
        return
    path = _in_tree(pattern)
    if path in files or path == SOPS_PATH:
        yield path
        return
    if any(each.startswith(f"{path}/") for each in files):
        failure = Failure("NotAFile", f"{path}: a directory: write {path}/** for the files in it", path=pattern)
    else:
        failure = Failure("FileNotFound", f"there is no file {path}", path=pattern)
    raise JiemiError.of(failure)


def _in_tree(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class _FakeRepository:
    def __init__(self, krapao: FakeKrapao, source: Source) -> None:
        self._krapao = krapao
        self._source = source

    async def head(self, *, max_age_seconds: float) -> Head:
        async with self._krapao._call("head", self._source.url):
            return self._krapao._head(self._source, max_age_seconds)

    async def verify(self, request: FilesRequest) -> Verified:
        async with self._krapao._call("verify", self._source.url):
            return self._krapao._verify(self._source, request.revision)

    async def files(self, request: FilesRequest) -> Files:
        async with self._krapao._call("files", self._source.url):
            self._require_signed(request.revision)
            return self._krapao._files(self._source, request)

    async def changes(self, before: str, after: str) -> Changes:
        async with self._krapao._call("changes", self._source.url):
            return self._krapao._changes(self._source, before, after)

    async def render(self, request: RenderRequest) -> Rendered:
        async with self._krapao._call("render", self._source.url, request.path):
            self._require_signed(request.revision)
            stated = request.format if self._krapao.knows_formats else None
            return attrs.evolve(self._krapao._render(self._source, request), format=stated)

    def _require_signed(self, revision: str) -> None:
        if self._source.verification is not None:
            self._krapao._verify(self._source, revision)

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        watchers = self._krapao._watchers.setdefault(self._source, [])
        watchers.append(on_moved)
        self._krapao.watching += 1
        try:
            await trio.sleep_forever()
        finally:
            self._krapao.watching -= 1
            watchers.remove(on_moved)
