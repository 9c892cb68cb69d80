"""Which of several servers a thing belongs to, decided by everyone alike from their names alone.

Rendezvous hashing (highest random weight; Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
IEEE/ACM Transactions on Networking 6(1), 1998): each server has a weight for each thing, and the heaviest has it. A
server that goes leaves its things to those that come next in their rankings, and no other thing moves; one that comes
takes a share of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def ranking(key: str, names: Iterable[str]) -> list[str]:
    """The servers of a thing: first the one that has it, then the one that has it when the first is gone, and so on.

    Args:
        key: which thing.
        names: of the servers, in any order. They must last: the names of a StatefulSet's Pods do, their addresses do
            not.
    """
    return sorted(names, key=lambda name: (_weight(key, name), name), reverse=True)


def _weight(key: str, name: str) -> bytes:
    # A zero is in no name, so two pairs never run into one text.
    return hashlib.sha256(f"{name}\0{key}".encode(errors="surrogatepass")).digest()
