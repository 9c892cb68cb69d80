"""Decryption with the real sops and gpg: what opens, what does not and why, and that nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format, format_of
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption import sops as sops_module
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, DecryptionKey, PgpKey

DATA = Path(__file__).parents[2] / "data"
PLAIN = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\nstringData:\n  a: SECRET-VALUE\n"


def age(text: str) -> AgeKey:
    return AgeKey(SensitiveText(text))


def pgp(text: str) -> PgpKey:
    return PgpKey(SensitiveText(text))


@pytest.fixture
def pgp_text() -> str:
    return (DATA / "pgp-test-key.asc").read_text()


@pytest.fixture
def age_text() -> str:
    return (DATA / "age-test-key.txt").read_text()


@pytest.fixture
async def decrypter(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime, decrypt_concurrency=8))


async def fails(
    reason: str, decrypter: SopsDecrypter, data: bytes, *keys: DecryptionKey, format: Format = Format.YAML
) -> str:
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data, format, keys)
    assert caught.value.failure.reason == reason, str(caught.value)
    assert "SECRET" not in str(caught.value).replace("AGE-SECRET-KEY-1", "")
    return caught.value.failure.text


RELEASES = sorted(path.name for path in DATA.glob("sops-*"))
NAMES = ["all.yaml", "regex.yaml", "multi.yaml", "all.json", "all.env", "all.ini", "all.bin"]


BEFORE_AGE = ("sops-3.5.0", "sops-3.6.1")


def test_there_are_samples_of_the_releases_since_3_5() -> None:
    versions = sorted(tuple(map(int, release.removeprefix("sops-").split("."))) for release in RELEASES)
    assert versions == [(3, 5, 0), (3, 6, 1), (3, 7, 3), (3, 8, 1), (3, 9, 4), (3, 10, 2), (3, 11, 0), (3, 12, 2)]


@pytest.mark.parametrize(
    ("release", "name", "kind"),
    [
        (release, name, kind)
        for release in RELEASES
        for name in NAMES
        for kind in ("pgp", "age")
        if (DATA / release / name).exists() and not (kind == "age" and release in BEFORE_AGE)
    ],
)
async def test_files_of_older_releases_open(
    decrypter: SopsDecrypter, release: str, kind: str, name: str, pgp_text: str, age_text: str
) -> None:
    format = format_of(name)
    key = pgp(pgp_text) if kind == "pgp" else age(age_text)
    plain = (await decrypter.decrypt((DATA / release / name).read_bytes(), format, (key,))).plain
    if format is Format.BINARY:
        assert plain.reveal() == b"correct horse\0\x01\n"
        return
    documents = [json.loads(one) for one in parse_documents(plain.reveal(), format, max_documents=10)]
    if name == "multi.yaml":
        assert [one["metadata"]["name"] for one in documents] == ["first", "second"]
        assert documents[0]["data"] == {"a": "1"}
        assert documents[1]["stringData"] == {"b": "two"}
    elif name == "all.json":
        assert documents == [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "demo"},
                "stringData": {"password": "correct horse", "count": "12"},
                "immutable": True,
            }
        ]
    elif format is Format.DOTENV:
        assert documents == [{"PASSWORD": "correct horse", "COUNT": "12"}]
    elif format is Format.INI:
        assert documents[0]["db"] == {"password": "correct horse", "count": "12"}
    else:
        [one] = documents
        assert one["apiVersion"] == "v1"
        assert one["metadata"]["annotations"] == {"note": "2020-01-01"}
        assert one["stringData"] == {"password": "correct horse", "on": "yes", "number": "007"}


async def test_any_of_several_keys_opens_the_file(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, other_age_pair: AgePair, pgp_text: str
) -> None:
    data = encrypt(PLAIN, "--age", age_pair.public)
    keys = (age(f"# two\n{other_age_pair.private}\n{age_pair.private}"), pgp(pgp_text))
    assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, keys)).plain.reveal()


async def test_a_wrong_key_is_reported_with_recipients_beside_what_was_given(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, other_age_pair: AgePair, pgp_text: str
) -> None:
    data = encrypt(PLAIN, "--age", age_pair.public)
    other_pgp = (
        (DATA / "sops-3.9.4" / "all.yaml").read_bytes().replace(b"-----BEGIN PGP MESSAGE", b"-----BEGIN PGP MESSAG")
    )
    message = await fails("KeyMissing", decrypter, data, age(other_age_pair.private))
    assert f"The file is for: age {age_pair.public} (not opened by the key given)." in message
    assert f"Given: age {other_age_pair.public}" in message
    message = await fails("KeyMissing", decrypter, data, pgp(pgp_text))
    assert f"age {age_pair.public} (no key of this kind is given). Given: a key for pgp" in message
    message = await fails("KeyMissing", decrypter, other_pgp, pgp(pgp_text))
    assert "Given: pgp 23306C6391D0E22B5F4B45FFFB9A04CF402264B8" in message
    assert age_pair.public in await fails("KeyMissing", decrypter, data)


@pytest.mark.parametrize(
    ("rule", "stays_readable"),
    [
        ({"encrypted_regex": "^(a|deep)$"}, "open_text"),
        ({"unencrypted_regex": "^open$"}, "open_text"),
        ({"encrypted_suffix": "_secret"}, "open_text"),
        ({"unencrypted_suffix": "en"}, "open_text"),
        ({"encrypted_comment_regex": "sops:enc"}, "open_text"),
        ({"unencrypted_comment_regex": "sops:plain"}, "open_text"),
        ({"encrypted_regex": "^(a|deep)$", "mac_only_encrypted": True}, "open_text"),
        ({}, None),
    ],
)
async def test_partly_encrypted_files_open_comments_included(
    decrypter: SopsDecrypter,
    sops_path: Path,
    tmp_path: Path,
    age_pair: AgePair,
    rule: dict[str, object],
    stays_readable: str | None,
) -> None:
    plain = (
        "# about this file\n# sops:enc\na: SECRET-VALUE\na_secret: SECRET-TOO\n"
        "# sops:plain\nopen: open_text\ndeep:\n  - x: 1 # one\n  - SECRET-LIST\n"
    )
    data = _encrypt_by({"age": age_pair.public, **rule}, plain, sops_path, tmp_path)
    if stays_readable is not None:
        assert stays_readable.encode() in data
    else:
        assert b"open_text" not in data
        assert b"about this file" not in data
    found = (await decrypter.decrypt(data, Format.YAML, (age(age_pair.private),))).plain
    [document] = parse_documents(found.reveal(), Format.YAML, max_documents=1)
    assert json.loads(document) == {
        "a": "SECRET-VALUE",
        "a_secret": "SECRET-TOO",
        "open": "open_text",
        "deep": [{"x": 1}, "SECRET-LIST"],
    }


def _encrypt_by(rule: dict[str, object], plain: str, sops: Path, folder: Path) -> bytes:
    """A YAML file, encrypted as a rule of a .sops.yaml says."""
    (folder / ".sops.yaml").write_text(json.dumps({"creation_rules": [rule]}))
    done = subprocess.run(
        [
            *(str(sops), "--config", ".sops.yaml", "encrypt", "--input-type", "yaml", "--output-type", "yaml"),
            *("--filename-override", "x.yaml"),
        ],
        input=plain.encode(),
        cwd=folder,
        env={"HOME": str(folder), "SOPS_DISABLE_VERSION_CHECK": "1"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_the_mac_is_of_what_the_file_says_that_it_is(
    decrypter: SopsDecrypter, sops_path: Path, tmp_path: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    rule = {"age": age_pair.public, "encrypted_regex": "^a$"}
    for more, reason in (({}, "MacMismatch"), ({"mac_only_encrypted": True}, None)):
        data = _encrypt_by({**rule, **more}, "a: SECRET-VALUE\nopen: one\n", sops_path, tmp_path)
        changed = data.replace(b"open: one", b"open: two")
        assert changed != data
        if reason is not None:
            await fails(reason, decrypter, changed, age(age_pair.private))
            continue
        plain = (await decrypter.decrypt(changed, Format.YAML, (age(age_pair.private),))).plain
        assert b"two" in plain.reveal()
    # The flag can't be switched on afterwards: it is part of what the MAC is made of.
    data = encrypt("a: SECRET-VALUE\nopen: one\n", "--age", age_pair.public, "--encrypted-regex", "^a$")
    switched = data.replace(b"open: one", b"open: two").replace(
        b"    version:", b"    mac_only_encrypted: true\n    version:"
    )
    await fails("MacMismatch", decrypter, switched, age(age_pair.private))


async def test_key_groups_open_with_enough_of_them_and_not_with_fewer(
    decrypter: SopsDecrypter, sops_path: Path, tmp_path: Path, age_pair: AgePair, other_age_pair: AgePair, pgp_text: str
) -> None:
    third = _fresh_pair()
    groups = [[age_pair.public], [other_age_pair.public], [third[1]]]
    config = {
        "creation_rules": [
            {"shamir_threshold": 2, "key_groups": [{"age": group} for group in groups]},
        ]
    }
    data = _encrypt_by(config["creation_rules"][0], PLAIN, sops_path, tmp_path)
    assert b"shamir_threshold: 2" in data
    for keys in ((age_pair.private, third[0]), (other_age_pair.private, age_pair.private)):
        two = age("\n".join(keys))
        assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, (two,))).plain.reveal()
    message = await fails("KeyMissing", decrypter, data, age(age_pair.private))
    assert f"{age_pair.public} (opened)" in message
    assert f"{third[1]} (not opened by the key given)" in message


async def test_a_changed_file_is_refused(decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair) -> None:
    key = age(age_pair.private)
    text = encrypt(PLAIN, "--age", age_pair.public, "--encrypted-regex", "^stringData$").decode()
    for old, new in (
        ("name: x", "name: y"),
        ("_GCM,data:", "_GCM,data:AAAA"),
        ("stringData:", "added: b\nstringData:"),
    ):
        assert old in text
        await fails("MacMismatch", decrypter, text.replace(old, new, 1).encode(), key)
    without = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("mac:"))
    await fails("MacMismatch", decrypter, without.encode(), key)


@pytest.mark.parametrize(
    ("data", "format", "reason"),
    [
        (PLAIN.encode(), Format.YAML, "NotEncrypted"),
        (b"", Format.YAML, "NotEncrypted"),
        (b'{"a": "SECRET"}', Format.JSON, "NotEncrypted"),
        (b"a: [SECRET", Format.YAML, "UnknownFormat"),
        (b"- SECRET", Format.YAML, "UnknownFormat"),
        (b"\x00\xff", Format.YAML, "UnknownFormat"),
        (b"a: SECRET", Format.JSON, "UnknownFormat"),
        (b"a: SECRET\nsops: SECRET\n", Format.YAML, "DecryptionFailed"),
        (b"a: SECRET\nsops: {}\n", Format.YAML, "DecryptionFailed"),
    ],
)
async def test_what_is_no_sops_file_is_reported_and_not_quoted(
    decrypter: SopsDecrypter, age_pair: AgePair, data: bytes, format: Format, reason: str
) -> None:
    await fails(reason, decrypter, data, age(age_pair.private), format=format)


@pytest.mark.parametrize(
    "text",
    [
        "garbage SECRET",
        "",
        "# only a comment",
        "AGE-SECRET-KEY-1QQQQ",
        "AGE-PLUGIN-YUBIKEY-1QQQQ",
        "AGE-SECRET-KEY-1" + "q" * 58,
    ],
)
async def test_what_is_no_age_identity_is_reported(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, text: str
) -> None:
    await fails("KeyInvalid", decrypter, encrypt(PLAIN, "--age", age_pair.public), age(text))


async def test_a_damaged_age_identity_is_reported_as_such(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair
) -> None:
    damaged = age_pair.private[:-1] + ("Q" if age_pair.private[-1] != "Q" else "P")
    data = encrypt(PLAIN, "--age", age_pair.public)
    assert "checksum" in await fails("KeyInvalid", decrypter, data, age(damaged))


async def test_what_is_no_pgp_private_key_is_reported(decrypter: SopsDecrypter, pgp_text: str) -> None:
    data = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    for text in (
        "garbage SECRET",
        "",
        pgp_text.replace("\n", " "),
        pgp_text.replace("\n", "\\n"),
        pgp_text[: len(pgp_text) // 2],
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----",
    ):
        await fails("KeyInvalid", decrypter, data, pgp(text))


async def test_a_pgp_key_with_windows_line_ends_and_spaces_around_still_opens(
    decrypter: SopsDecrypter, pgp_text: str
) -> None:
    data = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    await decrypter.decrypt(data, Format.YAML, (pgp("\n  " + pgp_text.replace("\n", "\r\n") + "\n\n"),))


async def test_missing_programs_are_reported_and_heal_when_they_come(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    tmp_path: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
    pgp_text: str,
) -> None:
    data = encrypt(PLAIN, "--age", age_pair.public)
    later = tmp_path / "sops"
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=later, runtime_dir=runtime, gpg=tmp_path / "gpg"))
    await fails("SopsMissing", decrypter, data, age(age_pair.private))
    later.symlink_to(sops_path)
    await decrypter.decrypt(data, Format.YAML, (age(age_pair.private),))
    for_pgp = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    await fails("GpgMissing", decrypter, for_pgp, pgp(pgp_text))
    (tmp_path / "gpg").symlink_to("/usr/bin/gpg")
    assert "no gpg-agent beside it" in await fails("GpgMissing", decrypter, for_pgp, pgp(pgp_text))
    nothing = SopsDecrypter(nursery, attrs.evolve(settings, programs_path=str(tmp_path / "empty"), runtime_dir=runtime))
    await fails("SopsMissing", nothing, data, age(age_pair.private))


async def test_a_pgp_key_is_never_put_on_a_disk(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    tmp_path: Path,
    pgp_text: str,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    on_disk = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=tmp_path))
    data = encrypt(PLAIN, "--age", age_pair.public)
    for_pgp = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    assert "not on a tmpfs" in await fails("StorageFailed", on_disk, for_pgp, pgp(pgp_text))
    await on_disk.decrypt(data, Format.YAML, (age(age_pair.private),))


async def test_a_run_that_takes_too_long_or_gives_too_much_is_ended(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    tmp_path: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    before = children_left()
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\n/bin/sleep 60 & /bin/sleep 60\n")
    slow.chmod(0o700)
    adopt_orphans()
    with_slow = SopsDecrypter(
        nursery,
        attrs.evolve(settings, sops=slow, runtime_dir=runtime, decrypt_timeout_seconds=0.3, programs_path="/nowhere"),
    )
    with_slow._measures = Measures()  # confined, a shell would not even start
    began = trio.current_time()
    assert "longer than" in await fails("Timeout", with_slow, b"", age(age_pair.private))
    assert trio.current_time() - began < 3
    small = SopsDecrypter(
        nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime, max_rendered_bytes=70_000)
    )
    data = encrypt("a: " + "x" * 200_000, "--age", age_pair.public)
    assert "70000 bytes" in await fails("LimitExceeded", small, data, age(age_pair.private))
    small.own("someone", (age(age_pair.private),))
    small.own("someone", ())
    await _until_nothing_is_left(runtime, before)


async def test_a_file_that_makes_sops_take_too_much_memory_is_ended(
    nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path, age_pair: AgePair
) -> None:
    tight = SopsDecrypter(
        nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime, decrypt_memory_bytes=150_000_000)
    )
    # It has the limit before it has the file, but not always before it has what it takes in any case.
    await fails("LimitExceeded", tight, b"a:\n" + b"- 1\n" * 400_000 + b"sops: {}\n", age(age_pair.private))
    await fails("DecryptionFailed", tight, b"a: 1\nsops: {}\n", age(age_pair.private))


def children_left() -> list[str]:
    """Our child processes and zombies by now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == os.getpid():
                found.append(stat[: stat.rindex(")") + 3])
    return found


async def test_two_hundred_pgp_runs_eight_at_a_time_leave_no_process_and_no_file(
    decrypter: SopsDecrypter, pgp_text: str, runtime: Path
) -> None:
    adopt_orphans()
    before = children_left()
    data = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    left = 200

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await decrypter.decrypt(data, Format.YAML, (pgp(pgp_text),))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)
    # One holder has served them all. It has an agent, and both end when nobody uses these keys any more.
    assert decrypter.holder_count == 1
    decrypter.own("someone", (pgp(pgp_text),))
    decrypter.own("someone", ())
    await _until_nothing_is_left(runtime, before)


async def _until_nothing_is_left(runtime: Path, before: list[str]) -> None:
    with trio.fail_after(10):
        while children_left() != before or list(runtime.iterdir()):  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)


async def test_a_cancelled_run_leaves_nothing_wherever_it_was(
    decrypter: SopsDecrypter, pgp_text: str, runtime: Path
) -> None:
    adopt_orphans()
    before = children_left()
    data = (DATA / "sops-3.9.4" / "all.yaml").read_bytes()
    for step in range(14):
        with trio.move_on_after(0.02 * step):
            await decrypter.decrypt(data, Format.YAML, (pgp(pgp_text),))
        decrypter.own("someone", (pgp(pgp_text),))
        decrypter.own("someone", ())
        await _until_nothing_is_left(runtime, before)


# Who a hostile file makes sops talk to


@pytest.fixture
def stranger() -> Iterator[tuple[int, list[bytes]]]:
    """A listener on loopback that keeps what it is told."""
    heard: list[bytes] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def listen() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(0.3)
                    try:
                        heard.append(connection.recv(4096))
                    except OSError:
                        heard.append(b"")

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], heard
        stop.set()
        thread.join()


HOSTILE = """\
a: ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]
sops:
    {services}
    lastmodified: "2024-01-01T00:00:00Z"
    mac: ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]
    version: 3.9.0
"""
SERVICES = {
    "vault": 'hc_vault: [{{vault_address: "http://127.0.0.1:{port}", engine_path: transit, key_name: k, '
    'created_at: "2024-01-01T00:00:00Z", enc: "vault:v1:AAAA"}}]',
    "aws": 'kms: [{{arn: "arn:aws:kms:us-east-1:1:key/k", created_at: "2024-01-01T00:00:00Z", enc: AAAA, '
    'aws_profile: "", role: "arn:aws:iam::1:role/r"}}]',
    "gcp": 'gcp_kms: [{{resource_id: "projects/p/locations/global/keyRings/r/cryptoKeys/k", '
    'created_at: "2024-01-01T00:00:00Z", enc: AAAA}}]',
    "azure": 'azure_kv: [{{vault_url: "https://127.0.0.1:{port}", name: n, version: v, '
    'created_at: "2024-01-01T00:00:00Z", enc: AAAA}}]',
    "huawei": 'hckms: [{{key_id: "cn-north-1:00000000-0000-0000-0000-000000000000", '
    'created_at: "2024-01-01T00:00:00Z", enc: AAAA}}]',
}


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_a_file_that_names_a_key_service_reaches_no_listener(
    decrypter: SopsDecrypter, age_pair: AgePair, stranger: tuple[int, list[bytes]], service: str, isolated: bool
) -> None:
    port, heard = stranger
    if not isolated:
        decrypter._measures = Measures()  # as on a platform that lets us have none
    data = HOSTILE.format(services=SERVICES[service].format(port=port)).encode()
    await fails("KeyMissing", decrypter, data, age(age_pair.private))
    assert heard == []


async def test_nothing_is_run_from_the_callers_environment(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    for name in ("SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "SOPS_GPG_EXEC"):
        monkeypatch.setenv(name, f"touch {ran}")
    monkeypatch.setenv("SOPS_AGE_KEY", age_pair.private)
    await fails("KeyMissing", decrypter, encrypt(PLAIN, "--age", age_pair.public), age(_fresh()))
    assert not ran.exists()


def _fresh_pair() -> tuple[str, str]:
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def _fresh() -> str:
    import pyrage

    return str(pyrage.x25519.Identity.generate())


async def test_a_program_killed_by_a_signal_is_a_limit(
    nursery: trio.Nursery, settings: KrapaoSettings, runtime: Path, tmp_path: Path, age_pair: AgePair
) -> None:
    killed = tmp_path / "killed"
    killed.write_text(f"#!/bin/sh\nkill -{signal.SIGXCPU.value} $$\n")
    killed.chmod(0o700)
    decrypter = SopsDecrypter(
        nursery, attrs.evolve(settings, sops=killed, runtime_dir=runtime, programs_path="/nowhere")
    )
    decrypter._measures = Measures()  # confined, a shell would not even start
    assert "processor time" in await fails("LimitExceeded", decrypter, b"", age(age_pair.private))
    assert sops_module.find_program(tmp_path / "none", "sops", "") is None


def _ssh_pair(kind: str) -> tuple[str, str]:
    """A private key in PEM and the public one, as ssh-keygen writes them."""
    made = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL if kind == "rsa-pem" else serialization.PrivateFormat.OpenSSH
    private = made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    public = made.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public.decode()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "rsa-pem"])
async def test_an_ssh_key_opens_a_file_that_is_for_it(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, kind: str
) -> None:
    private, public = _ssh_pair(kind)
    data = encrypt(PLAIN, "--age", f"{public} someone@somewhere")
    several = age(f"{age_pair.private}\n{_ssh_pair('ed25519')[0]}{private}")
    for key in (age(private), several):
        assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()
    message = await fails("KeyMissing", decrypter, data, age(_ssh_pair(kind)[0]))
    assert public[:60] in message


async def test_a_post_quantum_identity_opens_a_file_that_is_for_it(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair
) -> None:
    text = (DATA / "age-pq-test-key.txt").read_text()
    public = re.search(r"age1pq1[0-9a-z]+", text)
    assert public is not None
    data = encrypt(PLAIN, "--age", public[0])
    for key in (age(text), age(f"{age_pair.private}\n{text}")):
        assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()
    await fails("KeyMissing", decrypter, data, age(age_pair.private))
