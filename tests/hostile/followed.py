"""What is followed beside a hostile host, URL or commit: the tenant's file as it was before, and another tenant's."""

from __future__ import annotations

import json

import attrs
from dulwich.repo import Repo
from hostile.cases_repositories import FILE, Objects
from hostile.lab import Lab

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.rpc.contract import Krapao, RenderRequest, Repository
from jiemi.rpc.source import GitCredentials, Source


@attrs.frozen
class Followed:
    """A server with two repositories: `r.git` of the tenant, `next.git` of another one.

    Attributes:
        good: the tenant's first commit, which holds the Secret of the laboratory.
        address: by which it is reached.
    """

    server: GitServer
    lab: Lab
    good: str
    address: str

    @classmethod
    def on(cls, server: GitServer, lab: Lab) -> Followed:
        revisions = []
        for name, content in (("r.git", lab.file()), ("next.git", lab.other_file)):
            server.create(name)
            revisions.append(_commit(server, name, content))
        return cls(server, lab, revisions[0], server.url)

    @property
    def credentials(self) -> GitCredentials:
        """The tenant's: what they hold is a canary."""
        return GitCredentials(username=SensitiveText("ann"), token=SensitiveText(self.lab.credentials["vault"]))

    def push(self) -> str:
        """One more commit of the tenant's, with the same file; its hash."""
        return _commit(self.server, "r.git", self.lab.file())

    async def require_next_served(self, krapao: Krapao) -> None:
        """Another tenant gets its file."""
        source = Source(f"{self.address}/next.git", branch="main")
        async with krapao.open(source, self.credentials, "next") as repository:
            head = await repository.head(max_age_seconds=0)
            request = RenderRequest(head.revision, "s.yaml", None, (self.lab.other,))
            [document] = (await repository.render(request)).documents
            assert json.loads(document.reveal()) == {"a": "of the next tenant"}

    async def require_good(self, repository: Repository, revision: str) -> None:
        """A commit of the tenant's opens."""
        request = RenderRequest(revision, "s.yaml", None, (self.lab.age,))
        [document] = (await repository.render(request)).documents
        assert json.loads(document.reveal()) == self.lab.tree


def _commit(server: GitServer, name: str, content: bytes) -> str:
    repo = Repo(str(server.root / name))
    try:
        objects = Objects(repo)
        return objects.commit(objects.tree((b"s.yaml", FILE, objects.blob(content)))).decode()
    finally:
        repo.close()
