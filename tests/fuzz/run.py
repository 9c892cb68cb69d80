"""Fuzz what reads hostile bytes: `PYTHONPATH=tests python -m fuzz.run SECONDS [TARGET] [SEED]`.

Without a target each gets its turn of so many seconds. An input that does something new (by the words in which the
target tells what became of it) joins the ones that are mutated. In the end the smallest of each end, up to a bound, are
what `corpus/TARGET/` holds. A finding is written to `corpus/TARGET/finding-…`, told, and makes the exit status 1.
`test_corpus.py` replays what is kept.
"""

from __future__ import annotations

import hashlib
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from fuzz.mutate import mutate
from fuzz.target import Target
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
_MAX_KEPT = 60
_MAX_KEPT_BYTES = 900
_END_CHARACTERS = 100
"""So much of what a target tells makes an end that is worth a file."""
_MAX_POOL = 2_000
_MAX_FINDINGS = 10


class TooSlow(BaseException):
    """An input took longer than its target allows. No Exception, so that nothing takes it for a parser's error."""


def check(target: Target, data: bytes) -> str:
    """What became of an input. Raises what the target raises, and TooSlow (by processor time, in the main thread)."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, target.max_seconds)
    try:
        return target.check(data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def kept(name: str) -> list[Path]:
    """The files of a target's corpus."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())


def _keep(folder: Path, smallest: dict[str, bytes]) -> None:
    """Make a folder hold the inputs given, up to the bound: those with the shortest words, the commonest ends."""
    for path in folder.glob("*"):
        if not path.name.startswith("finding-"):
            path.unlink()
    for told in sorted(smallest, key=lambda told: (len(told), told))[:_MAX_KEPT]:
        (folder / _name(smallest[told])).write_bytes(smallest[told])


def fuzz(name: str, seconds: float, seed: int) -> bool:
    """Fuzz one target; whether nothing was found."""
    target, generator = TARGETS[name], random.Random(seed)
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    pool = [*target.begin, *(path.read_bytes() for path in kept(name))]
    seen: set[str] = set()
    findings: dict[str, Path] = {}
    smallest: dict[str, bytes] = {}
    runs, slowest, began = 0, 0.0, time.monotonic()
    queue = list(pool)
    while time.monotonic() < began + seconds and len(findings) < _MAX_FINDINGS:
        data = (
            queue.pop()
            if queue
            else mutate(
                generator, generator.choice(pool), tokens=target.tokens, others=pool, max_bytes=target.max_bytes
            )
        )
        runs += 1
        started = time.thread_time()
        try:
            told = check(target, data)
        except (Exception, TooSlow) as error:  # noqa: BLE001 - any is a finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            if where not in findings:
                findings[where] = folder / f"finding-{_name(data)}"
                findings[where].write_bytes(data)
                sys.stdout.write(f"{name}: {where}: {error}\n  {data[:200]!r}\n")
            continue
        slowest = max(slowest, time.thread_time() - started)
        end = told[:_END_CHARACTERS]
        if len(data) <= min(_MAX_KEPT_BYTES, len(smallest.get(end, data))):
            smallest[end] = data
        if told not in seen:
            seen.add(told)
            if len(pool) < _MAX_POOL:
                pool.append(data)
            else:  # those to begin with stay
                pool[generator.randrange(len(target.begin), _MAX_POOL)] = data
    _keep(folder, smallest)
    elapsed = time.monotonic() - began
    sys.stdout.write(
        f"{name}: {runs} executions in {elapsed:.0f} s ({runs / max(elapsed, 0.001):.0f}/s), {len(seen)} different "
        f"ends, the slowest {slowest:.2f} s, {len(findings)} findings, {len(kept(name))} files kept, seed {seed}\n"
    )
    sys.stdout.flush()
    return not findings


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 3 or (len(arguments) > 1 and arguments[1] not in TARGETS):
        sys.stderr.write(f"usage: python -m fuzz.run SECONDS [{'|'.join(TARGETS)}] [SEED]\n")
        return 2
    seconds = float(arguments[0])
    names = arguments[1:2] or list(TARGETS)
    seed = int(arguments[2]) if len(arguments) > 2 else 1
    found = [name for name in names if not fuzz(name, seconds, seed)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
