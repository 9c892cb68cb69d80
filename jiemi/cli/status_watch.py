"""`jiemi status --watch`: the table, and then the row of each Decryptor that changes, as `kubectl get --watch` does."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from jiemi.core.api.decryptor import Decryptor, read_decryptor
from jiemi.core.api.fields import FieldError
from jiemi.core.errors import Failure
from jiemi.core.names import NamespacedName
from jiemi.miwen.controller.decryptor_watch import DecryptorListWatch
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.miwen.watch.reflector import reflect

_RETRY_SECONDS = 2.0


async def watch_decryptors(
    kubernetes: Kubernetes,
    *,
    show_all: Callable[[list[Decryptor]], None],
    show: Callable[[Decryptor], None],
    gone: Callable[[NamespacedName], None],
    trouble: Callable[[Failure], None],
    wanted: Callable[[Decryptor], bool],
) -> None:
    """Show Decryptors until cancelled.

    Args:
        show_all: called once, with all that there are.
        show: called with each one that has changed in what is shown of it.
        gone: called with each one that is deleted.
        trouble: called where the API server gives no answer; it is asked again.
        wanted: which of them are shown.
    """
    sink = _Sink(show_all, show, gone, trouble, wanted)
    await reflect(DecryptorListWatch(kubernetes), sink, name="decryptors", retry_seconds=lambda _: _RETRY_SECONDS)


class _Sink:
    """Knows what was shown of each, so that what is as it was is not shown again."""

    def __init__(
        self,
        show_all: Callable[[list[Decryptor]], None],
        show: Callable[[Decryptor], None],
        gone: Callable[[NamespacedName], None],
        trouble: Callable[[Failure], None],
        wanted: Callable[[Decryptor], bool],
    ) -> None:
        self._show_all = show_all
        self._show = show
        self._gone = gone
        self._trouble = trouble
        self._wanted = wanted
        self._known: dict[NamespacedName, Decryptor] = {}
        self._all_shown = False

    def put(self, obj: JsonObject) -> NamespacedName | None:
        try:
            decryptor = read_decryptor(obj)
        except FieldError:
            return None
        key = decryptor.meta.key
        if self._wanted(decryptor):
            before = self._known.get(key)
            self._known[key] = decryptor
            if self._all_shown and (before is None or before.status != decryptor.status):
                self._show(decryptor)
        return key

    def remove(self, obj: JsonObject) -> None:
        metadata = obj.get("metadata") or {}
        self._forget((metadata.get("namespace", ""), metadata.get("name", "")))

    def keep_only(self, keys: AbstractSet[NamespacedName]) -> None:
        for key in self._known.keys() - keys:
            self._forget(key)
        if not self._all_shown:
            self._all_shown = True
            self._show_all([self._known[key] for key in sorted(self._known)])

    def watching(self) -> None:
        """Nobody waits for it."""

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        if failures_in_a_row == 1:
            self._trouble(failure)

    def _forget(self, key: NamespacedName) -> None:
        if self._known.pop(key, None) is not None and self._all_shown:
            self._gone(key)
