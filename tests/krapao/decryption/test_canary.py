"""No secret of a decryption is found in a command line, log, message or file on a disk, while it runs and after."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.private_folders import require_memory
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, DecryptionKey, PgpKey

DATA = Path(__file__).parents[2] / "data"
CANARY = "canary-4d1f0b7e"
PLAIN = f"a: {CANARY}\nb: [{CANARY}]\n"


def command_lines() -> bytes:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                found.append((entry / "cmdline").read_bytes())
    return b"\n".join(found)


def written_since(moment: float, *roots: Path) -> Iterator[bytes]:
    """Contents of the files in the folders and the folders of those, but not of what is in memory anyway."""
    for root in roots:
        for path in [*root.glob("*"), *root.glob("*/*")]:
            with contextlib.suppress(OSError, JiemiError):
                if path.is_file() and path.stat().st_mtime >= moment:
                    try:
                        require_memory(path)
                    except JiemiError:
                        yield path.read_bytes()


async def test_no_canary_is_found_outside_of_memory(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    tmp_path: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
    other_age_pair: AgePair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adopt_orphans()
    for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pgp_text = (DATA / "pgp-test-key.asc").read_text()
    pgp, age = PgpKey(SensitiveText(pgp_text)), AgeKey(SensitiveText(age_pair.private))
    pgp_line = pgp_text.splitlines()[3]
    needles = [CANARY.encode(), base64.b64encode(CANARY.encode()), age_pair.private.encode(), pgp_line.encode()]
    needles += [other_age_pair.private.encode(), base64.b64decode(pgp_line[:64])]
    encrypted = encrypt(PLAIN, "--age", age_pair.public)
    pgp_file = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    cases: list[tuple[bytes, tuple[DecryptionKey, ...]]] = [
        (encrypted, (age,)),
        (pgp_file, (pgp,)),
        (encrypted, (age, pgp)),
        (encrypted, (AgeKey(SensitiveText(other_age_pair.private)), pgp)),
        (encrypted.replace(b"data:", b"data:AAAA", 1), (age,)),
        (encrypted[: len(encrypted) // 2], (age,)),
        (PLAIN.encode(), (age, pgp)),
        (encrypted, (AgeKey(SensitiveText(age_pair.private[:-3])),)),
        (pgp_file, (PgpKey(SensitiveText(pgp_text[:-200])),)),
    ]
    began = time.time() - 2  # a file system's clock may be a little behind
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path))
    seen: list[bytes] = []
    told: list[str] = []

    async def look() -> None:
        while True:
            seen.append(await trio.to_thread.run_sync(command_lines))
            seen.extend(await trio.to_thread.run_sync(lambda: list(written_since(began, tmp_path))))

    async def run(data: bytes, keys: tuple[DecryptionKey, ...]) -> None:
        try:
            plain = (await decrypter.decrypt(data, Format.YAML, keys)).plain
            told.append(repr((plain, parse_documents(plain.reveal(), Format.YAML, max_documents=9), keys))[:20])
        except JiemiError as error:
            told.append(f"{error!r} {error.__cause__!r} {error.__context__!r}")

    with capture_logs() as logs:
        async with trio.open_nursery() as looking:
            looking.start_soon(look)
            async with trio.open_nursery() as running:
                for _ in range(3):
                    for data, keys in cases:
                        running.start_soon(run, data, keys)
            looking.cancel_scope.cancel()
    assert len(told) == 27
    assert sum("<sensitive>" in each for each in told) == 9
    assert b"sops\0decrypt" in b"".join(seen)
    seen += [repr(logs).encode(), "".join(told).encode(), command_lines()]
    seen += written_since(began, tmp_path, Path("/tmp"), Path("/var/tmp"), Path.cwd())
    for needle in needles:
        assert not any(needle in each for each in seen)
