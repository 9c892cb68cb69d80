"""How much git work runs at once in one Krapao, and how much of that is left to other hosts."""

from __future__ import annotations

from jiemi.concurrency.fair_limiter import Bound, FairLimiter
from jiemi.krapao.settings import KrapaoSettings

_READERS = 4
_SEARCHES = 4


class Limiters:
    """What runs at once for all repositories. A listing is small; a fetch takes memory and the volume's time."""

    def __init__(self, settings: KrapaoSettings) -> None:
        self.listings = FairLimiter(settings.listing_concurrency)
        self.fetches = FairLimiter(settings.git_concurrency)
        self.readers = FairLimiter(_READERS)
        self.searches = FairLimiter(_SEARCHES)
        self._of_host = settings.listing_concurrency * 3 // 4, settings.git_concurrency * 3 // 4

    def listing_of(self, host: str) -> Bound:
        """What one host may have of the listings. The rest is left to other hosts."""
        return Bound(host, self._of_host[0])

    def fetch_of(self, host: str) -> Bound:
        """Likewise of the fetches."""
        return Bound(host, self._of_host[1])

    def searches_of(self, repository: object) -> Bound:
        """What one repository may have of the searches. One place is left to others."""
        return Bound(repository, _SEARCHES - 1)
