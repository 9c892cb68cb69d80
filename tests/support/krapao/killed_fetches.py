"""Fetches into a volume, each in a process of its own that may be killed while it runs: `python -m` this module.

It reads one JSON object a line and answers each with one:

    {"url", "state", "kill_after"}   a fetch of the newest revision; kill_after: seconds until SIGKILL, or null
    {"killed", "answer"}               whether it was killed before it ended; answer: what `_follow` returned, else null

The processes are forks, because to start Python and import dulwich takes far longer than a fetch. Nothing runs in this
one when it forks: no thread, no event loop.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import structlog
import trio

from jiemi.core.address_rules import AddressRules
from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest
from jiemi.rpc.source import GitCredentials

MAX_PACKS = 4
"""A clone with more is made again, so that this is cut off as well."""


async def _follow(url: str, state: Path, addresses: AddressRules) -> dict[str, object]:
    """Fetch the newest revision and read all of it, three times at most; as a worker does it."""
    clones = Clones(KrapaoSettings(state_dir=state, addresses=addresses, max_packs=MAX_PACKS))
    await clones.prune()
    failures: list[str] = []
    async with clones.open(parse_url(url), GitCredentials()) as store:
        while len(failures) < 3:
            try:
                found = await store.advertised(Ref())
                await store.fetch(found)
                entries = await store.files(FilesRequest(found.revision, ("**",), ()), max_bytes=10**6)
                hashes = {}
                for entry in entries.entries:
                    data = await store.read(found.revision, entry.path, max_bytes=10**7)
                    hashes[entry.path] = hashlib.sha256(data).hexdigest()
            except JiemiError as error:
                failures.append(str(error.failure))
            else:
                return {"revision": found.revision, "files": hashes, "failures": failures}
    return {"revision": None, "files": {}, "failures": failures}


def _run(url: str, state: Path, kill_after: float | None, addresses: AddressRules) -> dict[str, object]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps(trio.run(_follow, url, state, addresses)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    return {"killed": os.WIFSIGNALED(status), "answer": json.loads(answer) if answer else None}


def main() -> None:
    from support.network.addresses import LOOPBACK

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for line in sys.stdin:
        asked = json.loads(line)
        answer = _run(asked["url"], Path(asked["state"]), asked["kill_after"], LOOPBACK)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
