"""What a large repository costs, beside git itself: `just bench-large [FILES [COMMITS [TRIALS]]]`.

A repository of FILES files (20,000) and COMMITS commits (5,000) over http. It prints

- seconds of `git clone --depth 1 --bare`, and of Krapao until a file of it is read, one after the other, several times;
  each with an empty folder (Krapao's process runs already);
- the same where one commit is new;
- the processor time of Krapao for a tick in which nothing changed: the host is asked, and names the same revision;
- the most memory that Krapao ever had, children not counted (they don't read git).
"""

from __future__ import annotations

import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog
import trio
from bench.bench_follow import cpu_seconds, peak_mebibytes
from support.e2e.lab import Service, start_jiemi, until
from support.network.addresses import LOOPBACK_FLAGS

from jiemi.demo.git_server import GitServer, serve_git
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import FilesRequest, Repository
from jiemi.rpc.source import GitCredentials, Source

TICKS = 100
_COMMIT = b"commit refs/heads/main\ncommitter a <a@example.com> %d +0000\ndata 1\nx\n"
_GIT = shutil.which("git") or "git"


def fill(bare: Path, files: int, commits: int) -> None:
    """Make the repository's history: each file is written once, and each later commit changes one."""
    lines: list[bytes] = []

    def commit(number: int, changed: range) -> None:
        lines.append(
            b"commit refs/heads/main\ncommitter a <a@example.com> %d +0000\ndata 1\nx\n" % (1_700_000_000 + number)
        )
        for file in changed:
            content = b"file %d of commit %d\n" % (file, number) * 20
            lines.append(b"M 100644 inline apps/%d/%d.yaml\ndata %d\n%s\n" % (file % 200, file, len(content), content))

    commit(0, range(files))
    for number in range(1, commits):
        commit(number, range(number % files, number % files + 1))
    run = [_GIT, "--git-dir", str(bare), "fast-import", "--quiet", "--force"]
    subprocess.run(run, input=b"".join(lines), check=True)
    subprocess.run([_GIT, "--git-dir", str(bare), "gc", "--quiet"], check=True)


def change(bare: Path, number: int) -> None:
    """One more commit."""
    script = (
        _COMMIT % (1_800_000_000 + number)
        + b"from refs/heads/main^0\nM 100644 inline apps/0/0.yaml\ndata 10\n%010d\n" % number
    )
    subprocess.run([_GIT, "--git-dir", str(bare), "fast-import", "--quiet"], input=script, check=True)


def git_clones(url: str, folder: Path) -> float:
    began = time.monotonic()
    subprocess.run([_GIT, "clone", "--quiet", "--depth", "1", "--bare", url, str(folder)], check=True)
    return time.monotonic() - began


async def follow(repository: Repository) -> float:
    began = trio.current_time()
    head = await repository.head(max_age_seconds=0)
    found = await repository.files(FilesRequest(head.revision, ("apps/0/*.yaml",)))
    assert found.entries
    return trio.current_time() - began


async def ended(service: Service) -> None:
    await trio.to_thread.run_sync(service.end)


async def measure(server: GitServer, folder: Path, trials: int) -> None:
    url, bare = server.url_of("large.git"), server.root / "large.git"
    by_git, first, next_ones, ticks, peaks = [], [], [], [], []
    for trial in range(trials):
        by_git.append(await trio.to_thread.run_sync(git_clones, url, folder / f"bare-{trial}"))
        socket, state = folder / f"{trial}.sock", folder / f"state-{trial}"
        service = start_jiemi(
            folder,
            *("krapao", "--listen", f"unix:{socket}", "--state-dir", state, *LOOPBACK_FLAGS),
            "--runtime-dir",
            folder,
        )
        try:
            await trio.to_thread.run_sync(until, "Krapao serves", socket.exists)
            async with (
                open_bridge() as bridge,
                connect(UnixAddress(str(socket)), bridge=bridge) as client,
                client.open(Source(url), GitCredentials()) as repository,
            ):
                first.append(await follow(repository))
                change(bare, trial)
                next_ones.append(await follow(repository))
                before = cpu_seconds(service.process.pid)
                for _ in range(TICKS):
                    await repository.head(max_age_seconds=0)
                ticks.append((cpu_seconds(service.process.pid) - before) / TICKS)
                peaks.append(peak_mebibytes(service.process.pid))
        finally:
            await ended(service)
    pairs = sorted(mine / theirs for mine, theirs in zip(first, by_git, strict=True))
    print(f"git clone --depth 1 --bare: median {statistics.median(by_git):.2f} s, longest {max(by_git):.2f} s")
    print(f"Krapao's first sync:        median {statistics.median(first):.2f} s, longest {max(first):.2f} s")
    print(f"  in times of git's:        median {statistics.median(pairs):.2f}, most {pairs[-1]:.2f}")
    print(f"a new commit:               median {statistics.median(next_ones):.2f} s, longest {max(next_ones):.2f} s")
    print(f"an unchanged tick:          median {1_000 * statistics.median(ticks):.1f} ms of Krapao's CPU")
    print(f"Krapao's memory at most:    {max(peaks):.0f} MiB")


async def main(files: int, commits: int, trials: int) -> None:
    with tempfile.TemporaryDirectory(prefix="jiemi-bench-", dir="/dev/shm") as name:
        folder = Path(name)
        (folder / "git").mkdir()
        async with serve_git(folder / "git") as server:
            server.create("large.git")
            await trio.to_thread.run_sync(fill, server.root / "large.git", files, commits)
            print(f"{files} files, {commits} commits, {trials} trials")
            await measure(server, folder, trials)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    given = [int(each) for each in sys.argv[1:]]
    files, commits, trials = [*given, *(20_000, 5_000, 10)[len(given) :]]
    trio.run(main, files, commits, trials)
