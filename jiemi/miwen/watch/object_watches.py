"""Watch the objects that Jiemi applied, and the Secrets: one watch for each kind, however many Decryptors want it.
Where Miwen looks at some namespaces only, it is one for each kind and namespace.

`ObjectWatches` has a `KindWatch` for each kind that is wanted, which a reflector feeds (`jiemi.miwen.watch.reflector`).
It reads metadata only, of the objects that carry the label `jiemi.cr/decryptor-name`; of Secrets it reads all but
Helm's releases, so that one watch shows drift and changes of credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import trio

from jiemi.core.errors import Failure
from jiemi.core.reasons import Kind
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.on_behalf import NOBODY, on_behalf_of
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.kubernetes.watch_counts import WatchCounts
from jiemi.miwen.watch.kind_watch import KindKey, KindWatch, OnChange, kind_key
from jiemi.tracing.current import in_trace

_Watched = dict[str | None, KindWatch]
"""The watches of one kind, by their namespaces; None: of all, or of a kind that has none."""


class NotSynced(LookupError):
    """The objects of the kind are not known (yet), so nothing can be said of one."""


class ObjectWatches:
    """The watches of all kinds that are wanted.

    Each is a task in the nursery, until `keep_only` ends it or the nursery is cancelled.

    Args:
        kubernetes: the cluster that is read.
        nursery: owns the tasks.
        on_change: notified of each change; also of each object of a kind's first list.
        random: gives a number in [0, 1), for jitter.
        counts: how the watches fare.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        nursery: trio.Nursery,
        on_change: OnChange,
        *,
        random: Callable[[], float],
        counts: WatchCounts | None = None,
    ) -> None:
        self._kubernetes = kubernetes
        self._nursery = nursery
        self._on_change = on_change
        self._random = random
        self._counts = counts if counts is not None else WatchCounts()
        self._watches: dict[KindKey, _Watched] = {}

    def want(self, resource: Resource) -> None:
        """See that the kind is watched. Costs nothing where it is; does not wait.

        A kind that is watched by another version of its group stays so, unless that one is no longer served.
        """
        watched = self._watches.setdefault(kind_key(resource), {})
        for namespace in self._kubernetes.scopes if resource.namespaced else (None,):
            watch = watched.get(namespace)
            if watch is not None and (watch.resource == resource or not watch.is_of_unknown_kind):
                continue
            if watch is not None:
                watch.end()
            new = KindWatch(self._kubernetes, resource, namespace, self._on_change, self._random, before=watch)
            watched[namespace] = new
            with on_behalf_of(NOBODY), in_trace(None):  # whatever wants it first is only one of those that do
                self._nursery.start_soon(new.run, self._counts)

    async def synced(self, resource: Resource, namespaces: Collection[str] | None = None) -> bool:
        """Want the kind, and wait until its objects are known. The deadline is the caller's.

        Args:
            namespaces: those whose objects matter; None: all.

        Returns:
            Whether they are; False where there is a `failure`.
        """
        await trio.lowlevel.checkpoint()
        while True:
            self.want(resource)
            awaited = [each for each in self._among(resource, namespaces) if not each.synced and each.failure is None]
            if not awaited:
                return self.known(resource, namespaces)
            await awaited[0].news.wait()

    def keep_only(self, resources: Iterable[Resource]) -> None:
        """End the watches of all other kinds, and forget their objects: a kind that is wanted again begins again."""
        for key in self._watches.keys() - {kind_key(resource) for resource in resources}:
            for watch in self._watches.pop(key).values():
                watch.end()

    def known(self, resource: Resource, namespaces: Collection[str] | None = None) -> bool:
        """Whether the kind's objects are known: they were listed, and a watch of them was opened.

        They stay known while the watch is interrupted; `failure` then says that they may be old.

        Args:
            namespaces: those whose objects matter; None: all.
        """
        return kind_key(resource) in self._watches and all(each.synced for each in self._among(resource, namespaces))

    def version_of(self, group: str, kind: str, namespace: str, name: str) -> str | None:
        """The resourceVersion of an object as it was reported last; None where there is none that is watched (it
        has not the label, is one of Helm's releases, or in a namespace that Miwen does not look at).

        Args:
            group: the API group; "" is the core group.
            namespace: "" for kinds that have none.

        Raises:
            NotSynced: the kind is not `known`.
        """
        watched = self._watches.get((group, kind))
        if watched is None:
            raise NotSynced(f"the objects of {kind} are not known")
        watch = watched.get(namespace) or watched.get(None)
        if watch is None:
            return None
        if not watch.synced:
            raise NotSynced(f"the objects of {kind} are not known")
        found = watch.objects.get((namespace, name))
        return None if found is None else found.version

    def failure(self, resource: Resource, namespaces: Collection[str] | None = None) -> Failure | None:
        """Why changes of the kind aren't seen now: WatchForbidden, KindUnknown; or a transient one that came twice in
        a row, because the first is mended in a second or two. Of several, one that lasts.

        Args:
            namespaces: those whose objects matter; None: all.
        """
        failures = [each.failure for each in self._among(resource, namespaces) if each.failure is not None]
        lasting = (failure for failure in failures if failure.kind is not Kind.TRANSIENT)
        return next(lasting, failures[0] if failures else None)

    def _among(self, resource: Resource, namespaces: Collection[str] | None) -> list[KindWatch]:
        """The watches of a kind that see those namespaces."""
        watched = self._watches.get(kind_key(resource), {})
        return [
            each
            for namespace, each in watched.items()
            if namespace is None or namespaces is None or namespace in namespaces
        ]
