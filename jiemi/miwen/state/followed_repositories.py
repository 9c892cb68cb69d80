"""Which Decryptors follow which repository, by what a webhook takes as one (`jiemi.core.webhooks.repository`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.source import RepositoryRef
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.pushes import may_concern
from jiemi.core.names import NamespacedName
from jiemi.core.webhooks.repository import RepositoryKey, repository_key

_Keys = dict[str, set[NamespacedName]]
"""Of Decryptors, by namespace."""


@attrs.define
class _Followers:
    """Those who follow one ref of a repository.

    Attributes:
        all: who.
        awake: those of them that are woken for each push; for the others, one question answers
            (`jiemi.miwen.state.followed_source`).
    """

    all: _Keys = attrs.field(factory=dict)
    awake: _Keys = attrs.field(factory=dict)


class FollowedRepositories:
    """An index, so that a push costs nothing for the Decryptors that it does not concern, and for those that rest."""

    def __init__(self) -> None:
        self._places: dict[NamespacedName, tuple[RepositoryKey, RepositoryRef | None]] = {}
        self._followers: defaultdict[RepositoryKey, dict[RepositoryRef | None, _Followers]] = defaultdict(dict)

    def put(self, decryptor: Decryptor) -> None:
        """A Decryptor is there, new or with another spec. It is awake."""
        key, spec = decryptor.meta.key, decryptor.spec
        self.remove(key)
        if isinstance(spec, DecryptorSpec):
            repository = repository_key(spec.source.repository.url)
            if repository is not None:
                place = self._places[key] = repository, spec.source.repository.ref
                found = self._followers[repository].setdefault(place[1], _Followers())
                found.all.setdefault(key[0], set()).add(key)
                found.awake.setdefault(key[0], set()).add(key)

    def remove(self, key: NamespacedName) -> None:
        """A Decryptor is gone."""
        place = self._places.pop(key, None)
        if place is None:
            return
        repository, ref = place
        found = self._followers[repository][ref]
        _discard(found.all, key)
        _discard(found.awake, key)
        if not found.all:
            del self._followers[repository][ref]
        if not self._followers[repository]:
            del self._followers[repository]

    def set_awake(self, key: NamespacedName, *, awake: bool) -> None:
        """Whether a Decryptor is woken for each push."""
        place = self._places.get(key)
        if place is None:
            return
        found = self._followers[place[0]][place[1]]
        if awake:
            found.awake.setdefault(key[0], set()).add(key)
        else:
            _discard(found.awake, key)

    def followers(
        self, repositories: Collection[RepositoryKey], namespace: str | None, refs: Collection[str]
    ) -> tuple[int, frozenset[NamespacedName]]:
        """How many follow one of these; and those whom a push may concern, of those that are awake.

        Args:
            namespace: the one whose Decryptors are meant; None: all.
            refs: full names of the refs that moved; empty: any may have.
        """
        count = 0
        awake: set[NamespacedName] = set()
        for repository in repositories:
            for ref, found in self._followers.get(repository, {}).items():
                count += sum(map(len, _of(found.all, namespace)))
                if may_concern(ref, refs):
                    awake.update(*_of(found.awake, namespace))
        return count, frozenset(awake)


def _of(keys: _Keys, namespace: str | None) -> Collection[set[NamespacedName]]:
    return keys.values() if namespace is None else [keys.get(namespace, set())]


def _discard(keys: _Keys, key: NamespacedName) -> None:
    found = keys.get(key[0])
    if found is not None:
        found.discard(key)
        if not found:
            del keys[key[0]]
