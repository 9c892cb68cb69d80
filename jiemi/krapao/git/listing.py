"""Listing: which revision a ref names on the host now, and what is there instead of one that is missing."""

from __future__ import annotations

import contextlib

import attrs
from dulwich.objects import ObjectID
from dulwich.refs import Ref as DulwichRef

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.git_host import GitHost
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.missing_ref import no_such_ref, prefixes_of_others
from jiemi.krapao.git.port import Advertised, Ref
from jiemi.krapao.git.urls import Location
from jiemi.rpc.contract import is_revision

_PEELED = b"^{}"


@attrs.frozen
class Lister:
    """Lists refs of one repository. Its methods run on threads."""

    _host: GitHost

    def list_ref(self, ref: Ref, meter: Meter) -> Advertised:
        """Ask the host which revision a ref names.

        Raises:
            JiemiError: RefNotFound, or what the conversation makes impossible.
        """
        with self._host.client(meter) as (client, path):
            listed = client.get_refs(path, ref_prefix=[ref.name]).refs
        if ref.commit is not None:
            return Advertised(ref.commit, ref.commit)
        if listed.get(DulwichRef(ref.name)) is None:
            raise no_such_ref(self._others(ref, meter), ref, self._host.location)
        return _pick(listed, ref, self._host.location)

    def _others(self, ref: Ref, meter: Meter) -> list[bytes]:
        """The refs that there are, where one is not: its kind's, and one of the other kind by that name."""
        with contextlib.suppress(JiemiError), self._host.client(meter) as (client, path):
            return list(client.get_refs(path, ref_prefix=list(prefixes_of_others(ref))).refs)
        return []


def _pick(listed: dict[DulwichRef, ObjectID | None], ref: Ref, location: Location) -> Advertised:
    target = listed[DulwichRef(ref.name)] or ObjectID(b"")
    peeled = listed.get(DulwichRef(ref.name + _PEELED))
    found = Advertised((peeled or target).decode("ascii", "replace"), target.decode("ascii", "replace"))
    if not is_revision(found.revision) or not is_revision(found.target):
        raise JiemiError("GitProtocolError", f"{location.authority} named a revision that is no commit hash")
    return found
