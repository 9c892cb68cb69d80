"""Files of one revision, as a rendering reads them: in the repository itself, or in one of its submodules."""

from __future__ import annotations

from typing import Protocol

import attrs

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.port import InSubmodule, Listed, Ref
from jiemi.krapao.git.submodules import Start, Submodule
from jiemi.krapao.git.trees import CONFIG, MAX_CONFIG_DEPTH
from jiemi.rpc.contract import Files, FilesRequest, RenderRequest

_SOPS_FIELD = "spec.source.sopsPath"


class FileWorker(Protocol):
    """What a worker has for those who look into a revision (`jiemi.krapao.worker.Worker`)."""

    async def listed(self, ref: Ref, request: FilesRequest, at: Start, askers: Askers) -> Listed:
        """Which files match, and in which submodules more may.

        Args:
            at: where this repository is in the one that the request is about.

        Raises:
            JiemiError: those of `Repository.head` and `Repository.files`.
        """
        ...

    async def read(
        self, at: AtRevision, path: str, askers: Askers, *, max_bytes: int, into_submodules: bool = False
    ) -> bytes:
        """The file at a path, as it is in the repository.

        Raises:
            InSubmodule: it is in a submodule, and `into_submodules`.
            JiemiError: those of `Repository.head` and `Repository.render`.
        """
        ...


@attrs.frozen
class AtRevision:
    """A revision that is looked into.

    Attributes:
        worker: of its repository.
        ref: that names it.
        name: its full hash.
    """

    worker: FileWorker
    ref: Ref
    name: str


class SubmoduleReader(Protocol):
    """What is in the submodules of a repository. The real form is `jiemi.krapao.followed_submodules`.

    Attributes:
        hosts: that they may be on. Who names others may be given another answer.
    """

    @property
    def hosts(self) -> tuple[str, ...]: ...

    async def files(self, at: AtRevision, listed: Listed, request: FilesRequest, askers: Askers) -> Files:
        """All files that match: those of the repository, and those in its submodules.

        Args:
            listed: what matches in the repository itself.
        """
        ...

    async def read(self, at: AtRevision, submodule: Submodule, path: str, askers: Askers, *, max_bytes: int) -> bytes:
        """The file at a path of the revision that leads into the submodule."""
        ...


@attrs.frozen
class RevisionFiles:
    """The files of one revision, for one rendering.

    Attributes:
        submodules: None where nothing is in submodules.
    """

    at: AtRevision
    askers: Askers
    max_bytes: int
    submodules: SubmoduleReader | None

    async def read(self, path: str) -> bytes:
        """The file at a path.

        Raises:
            JiemiError: those of `Repository.head` and `Repository.render`.
        """
        worker, limit, submodules = self.at.worker, self.max_bytes, self.submodules
        if submodules is None:
            return await worker.read(self.at, path, self.askers, max_bytes=limit)
        try:
            return await worker.read(self.at, path, self.askers, max_bytes=limit, into_submodules=True)
        except InSubmodule as inner:
            return await submodules.read(self.at, inner.submodule, path, self.askers, max_bytes=limit)

    async def config(self, request: RenderRequest) -> bytes | None:
        """The .sops.yaml that is named, or the nearest one above the file; None where there is none.

        Raises:
            JiemiError: as `read`, where one is named.
        """
        if request.sops_path is not None:
            try:
                return await self.read(request.sops_path)
            except JiemiError as error:
                if error.failure.reason in ("FileNotFound", "NotAFile"):
                    raise JiemiError.of(error.failure.at(_SOPS_FIELD)) from error
                raise
        folders = request.path.split("/")[:-1]
        for depth in range(min(len(folders), MAX_CONFIG_DEPTH), -1, -1):
            try:
                return await self.read("/".join((*folders[:depth], CONFIG)))
            except JiemiError as error:
                if error.failure.reason not in ("FileNotFound", "NotAFile", "LimitExceeded"):
                    raise
        return None
