"""How long one tenant's push takes to be followed beside others that attack Krapao with hosts that drip.

    just bench-tenants [DECRYPTORS [TENANTS]]

So many Decryptors for each hostile tenant, on two hosts that send a byte a second; one honest tenant pushes and asks.
Prints the seconds until its push is seen and its file is read, and the memory of the process.
"""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio
from support.network.dripping_host import dripping_host

from jiemi.core.errors import JiemiError
from jiemi.demo.git_server import serve_git
from jiemi.krapao.repositories import Repositories
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.source import GitCredentials, Source

_OLD = "tenant" not in inspect.signature(Repositories.open).parameters


def opened(krapao: Any, url: str, tenant: str) -> Any:
    """An older Krapao knows no tenants."""
    return krapao.open(Source(url), GitCredentials(), *(() if _OLD else (tenant,)))


async def main(decryptors: int, tenants: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "git").mkdir()
        async with serve_git(path / "git") as server, dripping_host() as one, dripping_host() as two:
            server.create("r.git")
            clone = path / "clone"

            def push(content: str) -> str:
                run = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@example.com"]
                if not clone.exists():
                    subprocess.run(["git", "init", "-q", "-b", "main", str(clone)], check=True)
                (clone / "a.yaml").write_text(content)
                subprocess.run([*run, "add", "-A"], check=True)
                subprocess.run([*run, "commit", "-q", "-m", "x"], check=True)
                subprocess.run([*run, "push", "-q", str(server.root / "r.git"), "HEAD:main"], check=True)
                return subprocess.run(
                    [*run, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
                ).stdout.strip()

            push("a: 1\n")
            async with open_service(KrapaoSettings(state_dir=path / "state")) as krapao, trio.open_nursery() as nursery:

                async def hang(url: str, tenant: str) -> None:
                    async with opened(krapao, url, tenant) as repository:
                        while True:
                            with contextlib.suppress(JiemiError):
                                await repository.head(max_age_seconds=0)

                async with opened(krapao, server.url_of("r.git"), "honest") as honest:
                    for label in ("without the attack", "during the attack"):
                        pushed = push(f"a: {label}\n")
                        began = trio.current_time()
                        head = await honest.head(max_age_seconds=0)
                        await honest.render(RenderRequest(head.revision, "a.yaml", allow_plain=True))
                        assert head.revision == pushed
                        print(f"{label}: {trio.current_time() - began:.2f} s")
                        for tenant in range(tenants if label == "without the attack" else 0):
                            for number in range(decryptors):
                                url = (one, two)[number % 2].url
                                nursery.start_soon(hang, f"{url}/{tenant}-{number}.git", f"hostile-{tenant}")
                        await trio.sleep(2)
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    _given = sys.argv[1:3]
    _decryptors, _tenants = map(int, [*_given, *("60", "1")[len(_given) :]])
    trio.run(main, _decryptors, _tenants)
