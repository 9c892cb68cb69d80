"""All sources that Decryptors have open: one `FollowedSource` for each, with equal credentials."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator

from jiemi.core.webhooks.repository import RepositoryKey, repository_key
from jiemi.miwen.state.followed_source import FollowedSource, Member
from jiemi.rpc.source import GitCredentials, Source
from jiemi.tracing.spans import Tracer


class FollowedSources:
    """The sources.

    Whoever has other credentials has another one: nobody learns here of what these would not let it read.

    Args:
        tracer: where the spans of questions go that a webhook causes; None where no traces are collected.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self._sources: dict[tuple[Source, GitCredentials], FollowedSource] = {}
        self._by_repository: defaultdict[RepositoryKey, set[FollowedSource]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._sources)

    @contextlib.contextmanager
    def joined(self, source: Source, credentials: GitCredentials, member: Member) -> Iterator[FollowedSource]:
        """Someone follows a source while the context lasts."""
        key = (source, credentials)
        followed = self._sources.get(key)
        if followed is None:
            followed = self._sources[key] = FollowedSource(source, self._tracer)
            if (repository := repository_key(source.url)) is not None:
                self._by_repository[repository].add(followed)
        followed.join(member)
        try:
            yield followed
        finally:
            followed.leave(member)
            if followed.is_empty and self._sources.get(key) is followed:
                del self._sources[key]
                self._forget(followed)

    def _forget(self, followed: FollowedSource) -> None:
        repository = repository_key(followed.source.url)
        if repository is not None:
            self._by_repository[repository].discard(followed)
            if not self._by_repository[repository]:
                del self._by_repository[repository]

    def to_ask(
        self, repositories: Collection[RepositoryKey], namespace: str | None, refs: Collection[str]
    ) -> frozenset[FollowedSource]:
        """The sources of which one question answers a webhook for members that rest.

        Args:
            namespace: the one whose Decryptors are meant; None: all.
            refs: full names of the refs that moved; empty: any may have.
        """
        return frozenset(
            followed
            for repository in repositories
            for followed in self._by_repository.get(repository, ())
            if followed.may_rest(namespace, refs)
        )
