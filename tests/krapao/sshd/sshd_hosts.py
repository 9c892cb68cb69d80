"""How OpenSSH's server shows itself, and what known_hosts says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from krapao.git.following import listing_fails
from krapao.sshd.conftest import Keys, Opener
from krapao.sshd.sshd_keys import lists
from support.krapao.work_tree import Work
from support.network.openssh import KeyFile, keygen, program

from jiemi.cli.main import app
from jiemi.krapao.settings import KrapaoSettings


@pytest.fixture
def pushed(open_host: Opener, work: Work) -> str:
    """The revision that each server of the test has."""
    with open_host() as host:
        revision = work.commit({"x": "one"})
        work.push(host.bare)
    return revision


@pytest.mark.parametrize("shown", [("ed25519",), ("ecdsa",), ("rsa",), ("rsa", "ecdsa", "ed25519")])
@pytest.mark.parametrize("known", ["ed25519", "ecdsa", "rsa"])
async def test_a_host_is_believed_by_any_of_its_keys_and_by_no_other(
    open_host: Opener, pushed: str, settings: KrapaoSettings, keys: Keys, shown: tuple[str, ...], known: str
) -> None:
    with open_host(host_keys=[keys.hosts[kind] for kind in shown]) as host:
        given = host.known(host.server.known(keys.hosts[known]))
        if known in shown:
            assert await lists(settings, host, given) == pushed
            return
        said = await listing_fails("HostKeyUnknown", settings, host.url, given)
        assert keys.hosts[shown[0]].fingerprint in said
        assert "Accepted" not in host.server.log()


async def test_hashed_names_count(
    open_host: Opener, pushed: str, settings: KrapaoSettings, keys: Keys, tmp_path: Path
) -> None:
    with open_host() as host:
        file = tmp_path / "known_hosts"
        file.write_text(host.server.known(keys.host))
        keygen("-H", "-f", str(file))
        hashed = file.read_text()
        assert hashed.startswith("|1|")
        assert await lists(settings, host, host.known(hashed)) == pushed
        elsewhere = host.server.known(keys.host, port=host.server.port + 1)
        file.write_text(elsewhere)
        keygen("-H", "-f", str(file))
        assert "is not known" in await listing_fails("HostKeyUnknown", settings, host.url, host.known(file.read_text()))


async def test_a_host_that_changed_its_key_is_refused_by_the_fingerprint_of_the_new_one(
    open_host: Opener, settings: KrapaoSettings, tmp_path: Path, keys: Keys
) -> None:
    new = KeyFile.make(tmp_path / "new", "ed25519")
    with open_host(host_keys=[new]) as host:
        said = await listing_fails("HostKeyUnknown", settings, host.url, host.known(host.server.known(keys.host)))
        assert f"another than the known ones: ssh-ed25519 {new.fingerprint}" in said
        assert "Accepted" not in host.server.log()


async def test_a_revoked_key_is_refused_although_it_is_known(
    open_host: Opener, pushed: str, settings: KrapaoSettings, keys: Keys
) -> None:
    shown = [keys.hosts["ecdsa"], keys.host]
    with open_host(host_keys=shown) as host:
        lines = host.server.known(*shown)
        revoked = f"@revoked * {keys.host.public}\n"
        said = await listing_fails("HostKeyUnknown", settings, host.url, host.known(lines + revoked))
        assert f"a key that known_hosts revokes: ssh-ed25519 {keys.host.fingerprint}" in said


async def test_certificates_of_hosts_are_not_looked_at_and_the_message_says_so(
    open_host: Opener, pushed: str, settings: KrapaoSettings, tmp_path: Path, keys: Keys
) -> None:
    authority = KeyFile.make(tmp_path / "authority", "ed25519")
    own = KeyFile.make(tmp_path / "own", "ed25519")
    keygen("-q", "-s", str(authority.path), "-I", "host", "-h", "-n", "127.0.0.1", f"{own.path}.pub")
    with open_host({"HostCertificate": f"{own.path}-cert.pub"}, host_keys=[own]) as host:
        by_authority = f"@cert-authority [127.0.0.1]:{host.server.port} {authority.public}\n"
        said = await listing_fails("HostKeyUnknown", settings, host.url, host.known(by_authority))
        assert f"is not known: ssh-ed25519 {own.fingerprint}" in said
        assert "@cert-authority" in said
        assert await lists(settings, host, host.known(by_authority + host.server.known(own))) == pushed


@pytest.mark.parametrize(
    "options",
    [
        {"KexAlgorithms": "curve25519-sha256"},
        {"KexAlgorithms": "curve25519-sha256@libssh.org"},
        {"KexAlgorithms": "ecdh-sha2-nistp521"},
        {"KexAlgorithms": "diffie-hellman-group16-sha512"},
        {"KexAlgorithms": "diffie-hellman-group-exchange-sha256"},
        {"KexAlgorithms": "diffie-hellman-group14-sha256"},
        {"Ciphers": "aes256-gcm@openssh.com"},
        {"Ciphers": "aes128-gcm@openssh.com"},
        {"Ciphers": "aes256-ctr", "MACs": "hmac-sha2-512-etm@openssh.com"},
        {"Ciphers": "aes192-ctr", "MACs": "hmac-sha2-256-etm@openssh.com"},
        {"Ciphers": "aes128-ctr", "MACs": "hmac-sha2-256"},
        {"HostKeyAlgorithms": "rsa-sha2-256"},
        {"HostKeyAlgorithms": "rsa-sha2-512"},
        {"Compression": "no", "RekeyLimit": "16K"},
    ],
    ids=lambda options: " ".join(options.values()),
)
async def test_hosts_that_take_little_are_talked_to(
    open_host: Opener, pushed: str, settings: KrapaoSettings, keys: Keys, options: dict[str, str]
) -> None:
    with open_host(options, host_keys=list(keys.hosts.values())) as host:
        assert await lists(settings, host, host.credentials) == pushed


@pytest.mark.parametrize(
    ("options", "lacks", "has"),
    [
        ({"KexAlgorithms": "diffie-hellman-group1-sha1"}, "key exchange", "curve25519-sha256"),
        ({"KexAlgorithms": "diffie-hellman-group14-sha1"}, "key exchange", "curve25519-sha256"),
        ({"KexAlgorithms": "sntrup761x25519-sha512@openssh.com"}, "key exchange", "curve25519-sha256"),
        ({"Ciphers": "aes128-cbc,aes256-cbc,3des-cbc"}, "cipher", "aes256-gcm@openssh.com"),
        ({"Ciphers": "aes256-ctr", "MACs": "hmac-md5,hmac-sha1-96"}, "MAC", "hmac-sha2-256-etm@openssh.com"),
        ({"Ciphers": "chacha20-poly1305@openssh.com"}, "cipher", "aes256-gcm@openssh.com"),
        ({"Ciphers": "aes256-ctr", "MACs": "umac-128-etm@openssh.com"}, "MAC", "hmac-sha2-256-etm@openssh.com"),
    ],
    ids=lambda each: " ".join(each.values()) if isinstance(each, dict) else each,
)
async def test_hosts_with_too_old_or_too_new_algorithms_alone_are_refused_by_what_is_missing(
    open_host: Opener, settings: KrapaoSettings, options: dict[str, str], lacks: str, has: str
) -> None:
    with open_host(options) as host:
        said = await listing_fails("GitProtocolError", settings, host.url, host.credentials)
        assert f"{host.server.host} takes no {lacks} that Krapao has. Krapao has " in said
        assert has in said
        assert next(iter(options)) in said or "MACs" in said
        assert next(iter(options.values())) not in said.replace("aes256-ctr", "")
        result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, ["known-hosts", host.server.host]))
        assert (result.exit_code, f"takes no {lacks} that Krapao has" in result.output) == (1, True)


async def test_a_host_whose_only_host_key_algorithm_is_sha1_is_refused(
    open_host: Opener, settings: KrapaoSettings, keys: Keys
) -> None:
    with open_host({"HostKeyAlgorithms": "ssh-rsa"}, host_keys=[keys.hosts["rsa"]]) as host:
        said = await listing_fails("HostKeyUnknown", settings, host.url, host.credentials)
        assert "shows no key of a known type (ssh-rsa), and no other that Krapao takes (ssh-ed25519, " in said


async def test_jiemi_known_hosts_prints_what_ssh_keyscan_prints(open_host: Opener, keys: Keys) -> None:
    with open_host(host_keys=list(keys.hosts.values())) as host:
        result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, ["known-hosts", host.server.host]))
        assert result.exit_code == 0, result.output
        run = [program("ssh-keyscan"), "-p", str(host.server.port), "127.0.0.1"]
        scanned = await trio.run_process(run, capture_stdout=True, capture_stderr=True)
        lines = {line for line in result.stdout.splitlines() if not line.startswith("#")}
        assert lines == set(scanned.stdout.decode().splitlines())
        for key in keys.hosts.values():
            assert f" {key.fingerprint}\n" in result.stdout
