"""Which tenants wait for a piece of work, which may be shared. `jiemi.concurrency.fair_limiter` serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Askers:
    """Which tenants wait for a piece of work. It may change while the work waits and runs.

    Args:
        tenants: who waits from the beginning.
    """

    def __init__(self, *tenants: str) -> None:
        self._asked = dict.fromkeys(tenants, 1)
        self._followers: dict[object, Callable[[str, bool], None]] = {}

    @property
    def tenants(self) -> tuple[str, ...]:
        """Who waits now, each once."""
        return tuple(self._asked)

    @contextmanager
    def joined(self, others: Askers) -> Iterator[None]:
        """While the context lasts, those others wait too, whoever joins or leaves them included."""

        def follow(tenant: str, here: bool) -> None:
            (self._add if here else self._remove)(tenant)

        with others.followed(follow):
            for tenant in others.tenants:
                self._add(tenant)
            try:
                yield
            finally:
                for tenant in others.tenants:
                    self._remove(tenant)

    @contextmanager
    def followed(self, on_change: Callable[[str, bool], None]) -> Iterator[None]:
        """While the context lasts, `on_change(tenant, is_here_now)` is called when a tenant joins or is gone."""
        key = object()
        self._followers[key] = on_change
        try:
            yield
        finally:
            del self._followers[key]

    def _add(self, tenant: str) -> None:
        self._asked[tenant] = self._asked.get(tenant, 0) + 1
        if self._asked[tenant] == 1:
            self._notify(tenant, here=True)

    def _remove(self, tenant: str) -> None:
        self._asked[tenant] -= 1
        if self._asked[tenant] == 0:
            del self._asked[tenant]
            self._notify(tenant, here=False)

    def _notify(self, tenant: str, *, here: bool) -> None:
        for on_change in list(self._followers.values()):
            on_change(tenant, here)
