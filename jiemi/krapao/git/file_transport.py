"""file://, a repository on Krapao's own machine: for tests and demonstrations, where the operator allows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dulwich.client import FetchPackResult, LocalGitClient, LsRemoteResult
from dulwich.errors import GitProtocolError
from dulwich.objects import ObjectID
from dulwich.protocol import PEELED_TAG_SUFFIX
from dulwich.refs import Ref


class FileClient(LocalGitClient):
    """dulwich's client for a repository on this machine, which says what a server says: what annotated tags name, and
    that an object is not there."""

    def fetch_pack(
        self,
        path: str | bytes,
        determine_wants: Callable[..., list[ObjectID]],
        *rest: Any,
        **options: Any,
    ) -> FetchPackResult:
        def wants_that_are_there(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
            wants = determine_wants(refs, depth)
            with self._open_repo(path) as repo:
                hex_length = repo.object_format.hex_length
                if not all(len(want) == hex_length and want in repo.object_store for want in wants):
                    raise GitProtocolError("not our ref")
            return wants

        return super().fetch_pack(path, wants_that_are_there, *rest, **options)

    def get_refs(
        self, path: str | bytes, protocol_version: int | None = None, ref_prefix: Sequence[bytes] | None = None
    ) -> LsRemoteResult:
        listed = super().get_refs(path, protocol_version, ref_prefix)
        with self._open_repo(path) as repo:
            for ref in list(listed.refs):
                if ref.startswith(tuple(ref_prefix or ())):
                    listed.refs[Ref(ref + PEELED_TAG_SUFFIX)] = repo.get_peeled(ref)
        return listed
