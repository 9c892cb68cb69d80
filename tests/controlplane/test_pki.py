"""The certificates verify, are private, stay, and are recreated in time."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import attrs
import pytest
from cryptography import x509

from jiemi.controlplane.pki import LIFETIME, RENEWAL, KeyPair, Pki, ensure_pki

NOW = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)


def contents(pki: Pki) -> dict[str, bytes]:
    pairs: list[KeyPair] = [
        *(pki.authority, pki.api_server, pki.etcd, pki.etcd_client, pki.controller_manager, pki.admin),
    ]
    paths = [path for pair in pairs for path in (pair.certificate, pair.key)]
    return {path.name: path.read_bytes() for path in [*paths, pki.service_account_key]}


def test_certificates_stay_until_they_come_near_their_end(tmp_path: Path) -> None:
    first = contents(ensure_pki(tmp_path / "pki", NOW))
    later = NOW + LIFETIME - RENEWAL
    assert contents(ensure_pki(tmp_path / "pki", later)) == first
    renewed = contents(ensure_pki(tmp_path / "pki", later + datetime.timedelta(seconds=1)))
    assert {name for name in first if renewed[name] == first[name]} == {"service-account.key"}


@pytest.mark.parametrize("name", ["ca.crt", "admin.key", "etcd.crt", "kube-controller-manager.key"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_damaged_certificates_are_recreated(name: str, damage: str, tmp_path: Path) -> None:
    before = contents(ensure_pki(tmp_path / "pki", NOW))
    path = tmp_path / "pki" / "certificates" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    after = contents(ensure_pki(tmp_path / "pki", NOW))
    assert after["ca.crt"] != before["ca.crt"]
    assert contents(ensure_pki(tmp_path / "pki", NOW)) == after


def test_a_crash_between_two_steps_of_making_them_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "pki" / ".certificates.new").mkdir(parents=True)
    (tmp_path / "pki" / ".certificates.new" / "ca.crt").write_text("half")
    pki = ensure_pki(tmp_path / "pki", NOW)
    x509.load_pem_x509_certificate(pki.authority.certificate.read_bytes())
    assert not (tmp_path / "pki" / ".certificates.new").exists()


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    ensure_pki(tmp_path / "pki", NOW)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "pki").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_a_handshake_with_them_succeeds_both_ways_and_fails_for_a_stranger(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ours, strange = ensure_pki(tmp_path / "ours", now), ensure_pki(tmp_path / "strange", now)
    assert handshake(ours.api_server, ours.admin, server_trusts=ours, client_trusts=ours)
    assert not handshake(ours.api_server, strange.admin, server_trusts=ours, client_trusts=ours)
    assert not handshake(strange.api_server, ours.admin, server_trusts=ours, client_trusts=ours)
    # A client's certificate is not taken for a server's.
    assert not handshake(ours.admin, ours.admin, server_trusts=ours, client_trusts=ours)


def handshake(server: KeyPair, client: KeyPair, *, server_trusts: Pki, client_trusts: Pki) -> bool:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server_trusts.authority.certificate)
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.load_cert_chain(server.certificate, server.key)
    client_side = ssl.create_default_context(cafile=client_trusts.authority.certificate)
    if hasattr(ssl, "VERIFY_X509_STRICT"):
        client_side.verify_flags |= ssl.VERIFY_X509_STRICT
        server_side.verify_flags |= ssl.VERIFY_X509_STRICT
    client_side.load_cert_chain(client.certificate, client.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client_side.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server_side.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = 0
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
            ends.remove(end)
            done += 1
    return done == 2


def test_certificates_are_recreated_where_the_api_server_has_a_name_that_they_lack(tmp_path: Path) -> None:
    before = contents(ensure_pki(tmp_path / "pki", NOW))
    pki = ensure_pki(tmp_path / "pki", NOW, ("10.89.0.1", "kubernetes"))
    after = contents(pki)
    assert after["kube-apiserver.crt"] != before["kube-apiserver.crt"]
    server = x509.load_pem_x509_certificate(pki.api_server.certificate.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "10.89.0.1" in map(str, names.get_values_for_type(x509.IPAddress))
    assert {"localhost", "kubernetes"} <= set(names.get_values_for_type(x509.DNSName))
    # One that has more names than are asked for stays.
    assert contents(ensure_pki(tmp_path / "pki", NOW, ("kubernetes",))) == after
    assert contents(ensure_pki(tmp_path / "pki", NOW)) == after


def test_only_the_administrator_is_in_the_group_that_may_do_anything(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path / "pki", NOW)
    users = {
        name: x509.load_pem_x509_certificate(pair.certificate.read_bytes()).subject.rfc4514_string()
        for name, pair in attrs.asdict(pki, recurse=False).items()
        if isinstance(pair, KeyPair)
    }
    assert [name for name, user in users.items() if "system:masters" in user] == ["admin"]
    assert users["controller_manager"] == "CN=system:kube-controller-manager"
