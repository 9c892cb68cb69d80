"""Listing: which revision a ref names on the host now, and what is there instead of one that is missing."""

from __future__ import annotations

import contextlib

import attrs
from dulwich.objects import ObjectID
from dulwich.refs import Ref as DulwichRef

from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location
from jiemi.krapao.git.git_host import GitHost
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.missing_ref import no_such_ref, prefixes_of_others
from jiemi.krapao.git.port import TAGS, Advertised, Ref
from jiemi.krapao.git.tag_range import newest_tag
from jiemi.rpc.contract import is_revision
from jiemi.rpc.source import TagRange

Listed = dict[DulwichRef, ObjectID | None]
"""What each ref names."""

_PEELED = b"^{}"

_MAX_MISSING = 100
"""How many refs are remembered as missing."""


@attrs.define(eq=False)
class Lister:
    """Lists refs of one repository. Its methods run on threads, one call at a time.

    A ref that is missing takes two listings at first: one for it, one for what is there instead. While it stays
    missing, one listing asks for both.
    """

    _host: GitHost
    _missing: set[Ref] = attrs.field(factory=set, init=False)

    def list_ref(self, ref: Ref, meter: Meter) -> Advertised:
        """Ask the host which revision a ref names.

        Raises:
            JiemiError: RefNotFound, or what the conversation makes impossible.
        """
        if ref.tags is not None:
            return self._newest(ref.tags, self._list(meter, TAGS))
        was_missing = ref in self._missing
        self._missing.discard(ref)
        listed = self._list(meter, ref.full_name, *(prefixes_of_others(ref) if was_missing else ()))
        if ref.commit is not None:
            return Advertised(ref.commit, ref.commit)
        if listed.get(DulwichRef(ref.full_name)) is not None:
            return _pick(listed, ref.full_name, self._host.location)
        others = list(listed) if was_missing else self._others(ref, meter)
        if others is not None and len(self._missing) < _MAX_MISSING:
            self._missing.add(ref)
        raise no_such_ref(others or (), ref, self._host.location)

    def _newest(self, wanted: TagRange, listed: Listed) -> Advertised:
        """The newest of the tags that are wanted.

        Raises:
            JiemiError: RefNotFound, InvalidSpec.
        """
        names = [
            name.removeprefix(TAGS).decode("utf-8", "replace")
            for name, target in listed.items()
            if name.startswith(TAGS) and not name.endswith(_PEELED) and target is not None
        ]
        return _pick(listed, TAGS + newest_tag(wanted, names, self._host.location.url).encode(), self._host.location)

    def _others(self, ref: Ref, meter: Meter) -> list[DulwichRef] | None:
        """The refs that there are, where one is not: its kind's, and one of the other kind by that name.

        None where they can't be listed, for example because they are too many.
        """
        with contextlib.suppress(JiemiError):
            return list(self._list(meter, *prefixes_of_others(ref)))
        return None

    def _list(self, meter: Meter, *prefixes: bytes) -> Listed:
        with self._host.client(meter) as (client, path):
            return client.get_refs(path, ref_prefix=list(prefixes)).refs


def _pick(listed: Listed, name: bytes, location: Location) -> Advertised:
    target = listed[DulwichRef(name)] or ObjectID(b"")
    peeled = listed.get(DulwichRef(name + _PEELED))
    found = Advertised(
        (peeled or target).decode("ascii", "replace"),
        target.decode("ascii", "replace"),
        name.decode("utf-8", "replace"),
    )
    if not is_revision(found.revision) or not is_revision(found.target):
        raise JiemiError("GitProtocolError", f"{location.authority} named a revision that is no commit hash")
    return found
