"""Keyrings of one run: which keys they take, and that nothing of them stays, not even after a SIGKILL."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.pgp_keys import encrypted_for_pgp, gpg_home_in_memory, made_pgp_key, run_gpg

import jiemi
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.private_folders import private_folder, remove_abandoned
from jiemi.krapao.decryption import gpg
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, PgpKey

DATA = Path(__file__).parents[2] / "data"
FILE = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
DEADLINE_SECONDS = 20


@pytest.fixture
async def decrypter(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


def key(name: str) -> PgpKey:
    return PgpKey(SensitiveText((DATA / name).read_text()))


async def test_a_key_under_a_passphrase_is_reported_as_such(decrypter: SopsDecrypter) -> None:
    with pytest.raises(JiemiError, match=r"KeyInvalid: spec\.provider\.pgp\.privateKey is protected by a passphrase"):
        await decrypter.decrypt(FILE, Format.YAML, (key("pgp-passphrase-key.asc"),))


async def test_a_key_whose_primary_secret_stayed_at_home_opens_files(decrypter: SopsDecrypter) -> None:
    assert (
        b"correct horse"
        in (await decrypter.decrypt(FILE, Format.YAML, (key("pgp-subkey-only-key.asc"),))).plain.reveal()
    )


async def test_a_usable_key_beside_one_under_a_passphrase_opens_the_file(decrypter: SopsDecrypter) -> None:
    await decrypter.decrypt(FILE, Format.YAML, (key("pgp-passphrase-key.asc"), key("pgp-test-key.asc")))


@pytest.fixture
def gpg_home() -> Iterator[Path]:
    """A home in which test keys are made."""
    yield from gpg_home_in_memory()


async def test_a_passphrase_opens_its_key_and_another_is_reported_as_such(
    decrypter: SopsDecrypter, sops_path: Path, gpg_home: Path
) -> None:
    fingerprint, private = made_pgp_key(gpg_home, "locked", passphrase="correct horse")
    data = encrypted_for_pgp(sops_path, gpg_home, fingerprint)
    right = PgpKey(SensitiveText(private), SensitiveText("correct horse\n"))
    for _ in range(2):
        assert b"canary-value" in (await decrypter.decrypt(data, Format.YAML, (right,))).plain.reveal()
    wrong = PgpKey(SensitiveText(private), SensitiveText("canary-passphrase"))
    with pytest.raises(
        JiemiError, match=r"KeyInvalid: spec\.provider\.pgp\.passphrase is not the passphrase"
    ) as caught:
        await decrypter.decrypt(data, Format.YAML, (wrong,))
    assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}"
    with pytest.raises(JiemiError, match=r"KeyInvalid: spec\.provider\.pgp\.privateKey is protected by a passphrase"):
        await decrypter.decrypt(data, Format.YAML, (PgpKey(SensitiveText(private)),))


async def test_several_keys_in_one_value_open_what_is_for_any_of_them_and_the_first_expiry_is_reported(
    decrypter: SopsDecrypter, sops_path: Path, gpg_home: Path
) -> None:
    one, first = made_pgp_key(gpg_home, "one")
    two, second = made_pgp_key(gpg_home, "two", expires="20d")
    key = PgpKey(SensitiveText(f"{first}\n\n{second}"))
    for fingerprint in (one, two):
        found = await decrypter.decrypt(encrypted_for_pgp(sops_path, gpg_home, fingerprint), Format.YAML, (key,))
        assert b"canary-value" in found.plain.reveal()
        assert found.key_expires_at is not None
        assert 19.5 < (found.key_expires_at - time.time()) / 86_400 < 20.5
    alone = await decrypter.decrypt(
        encrypted_for_pgp(sops_path, gpg_home, one), Format.YAML, (PgpKey(SensitiveText(first)),)
    )
    assert alone.key_expires_at is None


@pytest.mark.parametrize(
    "form", ["{public}{private}", "{private}{public}", "{other}\n{public}{private}\n{other}", "\ufeff{public}{private}"]
)
async def test_public_blocks_beside_the_private_key_are_no_hindrance(
    decrypter: SopsDecrypter, sops_path: Path, gpg_home: Path, form: str
) -> None:
    fingerprint, private = made_pgp_key(gpg_home, "one")
    other, _ = made_pgp_key(gpg_home, "other")
    public = run_gpg(gpg_home, "", "--armor", "--export", fingerprint)
    text = form.format(public=public, private=private, other=run_gpg(gpg_home, "", "--armor", "--export", other))
    data = encrypted_for_pgp(sops_path, gpg_home, fingerprint)
    found = await decrypter.decrypt(data, Format.YAML, (PgpKey(SensitiveText(text)),))
    assert b"canary-value" in found.plain.reveal()
    with pytest.raises(JiemiError, match=r"KeyInvalid: spec\.provider\.pgp\.privateKey is a public key"):
        await decrypter.decrypt(data, Format.YAML, (PgpKey(SensitiveText(public)),))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "only a stub"),
        ([b"(20:shadowed-private-key(3:rsa"], "only a stub"),
        ([b"(21:protected-private-key(3:ecc(9:protected18:openpgp-s2k3-ocb-aes"], "by a passphrase"),
        ([b"Key: (protected-private-key (ecc (protected openpgp-native (protection sha1 AES #00#"], "by a passphrase"),
        ([b"Key: (protected-private-key (ecc (protected openpgp-native (protection\n  none)"], None),
        ([b"(21:protected-private-key(3:ecc(14:openpgp-native(10:protection4:none)"], None),
        ([b"(11:private-key(3:ecc"], None),
        ([b"(21:protected-private-key(3:ecc", b"Key: (private-key (ecc"], None),
    ],
)
def test_whether_a_key_can_be_used_is_read_from_the_agents_files(
    tmp_path: Path, files: list[bytes], says: str | None
) -> None:
    folder = tmp_path / "private-keys-v1.d"
    folder.mkdir()
    for number, content in enumerate(files):
        (folder / f"{number}.key").write_bytes(content)
    if says is None:
        gpg._require_usable(folder.iterdir(), "the key", has_passphrase=False)
        return
    with pytest.raises(JiemiError, match=f"the key .*{says}") as caught:
        gpg._require_usable(folder.iterdir(), "the key", has_passphrase=False)
    assert caught.value.failure.reason == "KeyInvalid"


def test_the_folder_that_gnupg_makes_for_sockets_elsewhere_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name is the one that `gpgconf --homedir /dev/shm/jiemi-abc --list-dirs socketdir` of GnuPG 2.2.40 gave.
    ours, other = "d.pr7y83k4o5ahb5ua7cj5uygz", "d.cjidfjtdu6t644xnzsos7kbx"
    folder = tmp_path / "user" / str(os.getuid()) / "gnupg"
    for name in (ours, other):
        (folder / name).mkdir(parents=True)
        (folder / name / "S.gpg-agent").touch()
    monkeypatch.setattr(gpg, "_SOCKET_BASES", (str(tmp_path / "none"), str(tmp_path)))
    gpg.remove_sockets(Path("/dev/shm/jiemi-abc"))
    assert [each.name for each in folder.iterdir()] == [other]


def test_only_folders_that_nobody_uses_are_removed(runtime: Path) -> None:
    (runtime / "jiemi-sops-abandoned" / "private-keys-v1.d").mkdir(parents=True)
    (runtime / "another").mkdir()
    with private_folder(runtime) as used:
        (used / "file").touch()
        assert remove_abandoned(runtime) == (runtime / "jiemi-sops-abandoned",)
        assert sorted(runtime.iterdir()) == sorted([used, runtime / "another"])
        assert (used / "file").exists()
        assert used.stat().st_mode & 0o777 == 0o700
    (runtime / "another").rmdir()


def test_a_folder_goes_though_an_agent_makes_and_removes_files_in_it_meanwhile(runtime: Path) -> None:
    folder = runtime / "jiemi-sops-abandoned"
    (folder / "private-keys-v1.d").mkdir(parents=True)
    for number in range(100):
        (folder / f"key-{number}").touch()
    removals = 0
    real_unlink = os.unlink

    def unlink(path: Any, **options: Any) -> None:
        # What an agent that ends does at the worst moments: it removes a file first, and makes another.
        nonlocal removals
        removals += 1
        real_unlink(path, **options)
        if removals == 50:
            raise FileNotFoundError(2, "No such file or directory")
        if removals in (60, 150):
            (folder / f"S.gpg-agent-{removals}").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        assert remove_abandoned(runtime) == (folder,)
    assert list(runtime.iterdir()) == []


KILLED = """
import sys, trio
from pathlib import Path
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.decryption.gpg import open_keyring
from jiemi.krapao.confinement.processes import Limits
from jiemi.rpc.keys import PgpKey

async def main():
    key = PgpKey(SensitiveText(sys.stdin.read()))
    limits = Limits(seconds=20, cpu_seconds=20, memory_bytes=2**32, output_bytes=2**20)
    runtime = Path(sys.argv[1])
    measures = await probe(folder=Path("/dev/shm"), programs_path="/usr/bin:/bin")
    async with open_keyring(key, gpg=Path(sys.argv[2]), runtime_dir=runtime, limits=limits, measures=measures):
        print("open", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def leave_a_keyring(runtime: Path) -> tuple[Path, int]:
    """Open a keyring in a process that is killed then. Returns its folder and its agent's id."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(runtime), str(shutil.which("gpg"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(jiemi.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((DATA / "pgp-test-key.asc").read_bytes())
        process.stdin.close()
        assert process.stdout.readline() == b"open\n"
        process.send_signal(signal.SIGKILL)
    [home] = runtime.iterdir()
    [agent] = processes_that_name(home)
    return home, agent


def processes_that_name(home: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and str(home) in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


def reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # where it did not become a child of ours
        os.waitpid(pid, 0)


async def test_the_next_krapao_removes_the_keyring_of_a_killed_one_and_so_ends_its_agent(
    decrypter: SopsDecrypter, runtime: Path
) -> None:
    home, agent = leave_a_keyring(runtime)
    await decrypter.decrypt(FILE, Format.YAML, (key("pgp-test-key.asc"),))
    assert not home.exists()
    # The agent is told; that its folder goes it would see only after a minute or two, confined as it is.
    with trio.fail_after(DEADLINE_SECONDS):
        while processes_that_name(home):  # noqa: ASYNC110
            await trio.sleep(0.02)
    reap(agent)


async def test_a_configuration_of_sops_in_the_folder_above_is_not_read(
    decrypter: SopsDecrypter, runtime: Path, age_pair: AgePair, encrypt: Encrypter
) -> None:
    above = runtime / ".sops.yaml"
    above.write_text("{{ broken")
    try:
        data = encrypt("a: 1", "--age", age_pair.public)
        plain = (await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(age_pair.private)),))).plain
    finally:
        above.unlink()
    assert b"1" in plain.reveal()
