"""Which Decryptors follow which repository, by what a webhook takes as one (`jiemi.core.webhooks.repository`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.pushes import may_concern
from jiemi.core.names import NamespacedName
from jiemi.core.webhooks.repository import RepositoryKey, repository_key


class FollowedRepositories:
    """An index, so that a push costs nothing for the Decryptors that it does not concern."""

    def __init__(self) -> None:
        self._specs: dict[NamespacedName, tuple[RepositoryKey, DecryptorSpec]] = {}
        self._followers: defaultdict[RepositoryKey, set[NamespacedName]] = defaultdict(set)

    def put(self, decryptor: Decryptor) -> None:
        """A Decryptor is there, new or with another spec."""
        key, spec = decryptor.meta.key, decryptor.spec
        self.remove(key)
        if isinstance(spec, DecryptorSpec):
            repository = repository_key(spec.source.repository.url)
            if repository is not None:
                self._specs[key] = (repository, spec)
                self._followers[repository].add(key)

    def remove(self, key: NamespacedName) -> None:
        """A Decryptor is gone."""
        repository, _ = self._specs.pop(key, (None, None))
        if repository is not None:
            self._followers[repository].discard(key)
            if not self._followers[repository]:
                del self._followers[repository]

    def followers(
        self, repositories: Collection[RepositoryKey], namespace: str | None, refs: Collection[str]
    ) -> tuple[int, frozenset[NamespacedName]]:
        """How many follow one of these, and which of them a push may concern.

        Args:
            namespace: the one whose Decryptors are meant; None: all.
            refs: full names of the refs that moved; empty: any may have.
        """
        following = {
            key
            for repository in repositories
            for key in self._followers.get(repository, ())
            if namespace in (None, key[0])
        }
        return len(following), frozenset(key for key in following if may_concern(self._specs[key][1], refs))
