"""The certificates of Miwen and Krapao, made by the real cert-manager on an API server of its own.

The Issuers and Certificates are those of deploy/cert-manager and of the chart, or, for what users do with theirs, much
like them. What users do wrong is in test_cert_manager_mistakes.py.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.e2e.certified import USAGES, CertifiedCluster, Pair, is_of, leaf
from support.e2e.lab import Service, until
from support.e2e.scene import MERGE, Scene, secret
from support.kubernetes.cert_manager import certificate, issuer
from support.kubernetes.deploy_manifests import DEPLOY
from support.kubernetes.helm_chart import rendered
from support.kubernetes.installing import KRAPAO_VOLUME, free_port, kustomized, start_installed
from support.kubernetes.secret_volume import secret_volume

from jiemi.certificates import CLIENT_AUTH, SERVER_AUTH, alternative_name, alternative_names
from jiemi.miwen.certificates.secrets import CERT_MANAGERS

pytestmark = pytest.mark.e2e


# What is installed


def test_the_chart_s_certificates_are_issued_and_used_and_miwen_changes_none_of_them(
    certified: CertifiedCluster, helm_programs: dict[int, Path], kubectl_program: Path, tmp_path: Path
) -> None:
    lab, cert_manager = certified.lab, certified.cert_manager
    for namespace in ("jiemi", "team-a"):
        lab.namespace(namespace)
    values = {"tls": {"madeBy": "cert-manager", "issuerRef": {"name": "jiemi"}}}
    installed = rendered(helm_programs[4], tmp_path, values)
    issuers = kustomized(kubectl_program, DEPLOY / "cert-manager" / "issuer")
    cert_manager.put(*issuers, *installed)
    made = [each for each in (*issuers, *installed) if each["kind"] in ("Issuer", "Certificate")]
    assert [each["metadata"]["name"] for each in made if each in installed] == ["krapao-tls", "miwen-tls"]
    cert_manager.until_ready(*made)

    parts = {end: certified.parts("jiemi", f"{end}-tls") for end in USAGES}
    authority = leaf(certified.parts("jiemi", "jiemi-ca")["tls.crt"])
    for end, usage in (("krapao", SERVER_AUTH), ("miwen", CLIENT_AUTH)):
        own = leaf(parts[end]["tls.crt"])
        assert alternative_names(own) == {alternative_name(end)}
        assert list(own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert (own.not_valid_after_utc - own.not_valid_before_utc).days == 30
        public = own.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert public.curve.name == "secp256r1"
        assert leaf(parts[end]["ca.crt"]) == authority
        own.verify_directly_issued_by(authority)
    before = certified.metadata("jiemi")

    pages = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with secret_volume(lab.kubeconfig, "jiemi", "krapao-tls", lab.folder / KRAPAO_VOLUME):
        running = start_installed(lab, installed, metrics=(pages[0], pages[1]))
        pair = Pair(running.miwen, running.krapao, *pages)
        revision = certified.put_decryptor("team-a")
        lab.until_synced("team-a", "app", revision)
        assert lab.data("team-a", "app") == {"a": "1"}
        assert pair.ends() == tuple(
            leaf(parts[end]["tls.crt"]).not_valid_after_utc.timestamp() for end in ("miwen", "krapao")
        )
        _krapao_asks_for_and_shows_these(running.krapao, parts, tmp_path)
        assert "certificates_written" not in running.miwen.log_text()
        lab.end_services()
    assert certified.metadata("jiemi") == before
    managers = {field["manager"] for each in before for field in each["managedFields"]}
    assert managers == {"cert-manager-certificates-issuing"}
    assert certified.parts("jiemi", "jiemi-authorities") == {}
    miwen = lab.admin.service_account("jiemi", "miwen")
    for name in ("krapao-tls", "miwen-tls", "jiemi-ca"):
        path = f"/api/v1/namespaces/jiemi/secrets/{name}"
        assert "jiemi-miwen-objects" in miwen.call("PATCH", path, {"data": {"tls.crt": ""}}, MERGE).body["message"]


def _krapao_asks_for_and_shows_these(krapao: Service, parts: Mapping[str, Mapping[str, bytes]], folder: Path) -> None:
    """A handshake of our own: Krapao shows krapao-tls, lets in who shows miwen-tls, and nobody else."""
    (port,) = re.findall(r'"address": "tcp:127\.0\.0\.1:(\d+)", "event": "serving"', krapao.log_text())

    def handshake(end: str | None) -> tuple[bytes | None, bool]:
        """What Krapao shows, and whether it lets in who shows that certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=parts["miwen"]["ca.crt"].decode())
        if end is not None:
            (folder / end).write_bytes(parts[end]["tls.crt"] + parts[end]["tls.key"])
            context.load_cert_chain(folder / end)
        with (
            socket.create_connection(("127.0.0.1", int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="krapao") as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
            secured.settimeout(1)
            try:
                assert secured.recv(1) == b"", "it says nothing first"
            except TimeoutError:
                return shown, True
            except ssl.SSLError as error:
                assert "ALERT" in str(error)
            return shown, False

    own = leaf(parts["krapao"]["tls.crt"]).public_bytes(serialization.Encoding.DER)
    assert handshake("miwen") == (own, True)
    assert handshake("krapao") == (own, False)
    assert handshake(None) == (own, False)


# Renewal


def test_both_are_renewed_in_time_and_so_is_their_authority_and_no_call_fails(certified: CertifiedCluster) -> None:
    """cert-manager's webhook, which does not run here, allows no less than an hour; these live for 130 seconds."""
    lab, cert_manager, namespace = certified.lab, certified.cert_manager, "renewals"
    authority = certified.authority(namespace)
    short = {"duration": "130s", "renewBefore": "70s"}
    made = certified.certificates(namespace, krapao=short, miwen=short)
    cert_manager.until_ready(*made.values())
    scene, repository = Scene(lab, namespace), lab.repository()
    with certified.running(namespace) as pair:
        first = _ends(certified, namespace)
        scene.commit(repository, secret("app", a="0"))
        scene.put("app", repository.url)

        def push(number: int) -> None:
            revision = scene.commit(repository, secret("app", a=str(number)))
            lab.until_synced(namespace, "app", revision)
            assert pair.failed_calls() == []

        push(0)
        assert pair.ends() == first
        # The authority is renewed, and Krapao's certificate: it has the new ca.crt, and Miwen has the old one.
        cert_manager.renew(authority)
        cert_manager.renew(made["krapao"])
        until("Krapao has taken it up", lambda: pair.ends()[1] > first[1], seconds=60)
        _, second = pair.ends()
        number, deadline = 1, time.monotonic() + 180
        # Now in time. A connection is used until half of what was left of its certificates has passed.
        while not (pair.ends()[0] > first[0] and pair.ends()[1] > second):
            assert time.monotonic() < deadline, (pair.ends(), first, second)
            push(number)
            number += 1
            time.sleep(1)
        push(number)
        assert pair.failed_calls() == []
        assert "krapao_lost" not in pair.miwen.log_text()
        assert "no longer trusted" not in pair.krapao.log_text()
        renewed = leaf(certified.parts(namespace, "ca")["tls.crt"])
        assert [leaf(certified.parts(namespace, f"{end}-tls")["ca.crt"]) for end in USAGES] == 2 * [renewed]


def _ends(certified: CertifiedCluster, namespace: str) -> tuple[float, ...]:
    """When the certificates in the Secrets end, Miwen's first."""
    return tuple(
        leaf(certified.parts(namespace, f"{end}-tls")["tls.crt"]).not_valid_after_utc.timestamp()
        for end in ("miwen", "krapao")
    )


# Other issuers and keys


def test_certificates_of_a_cluster_issuer_below_another_authority_with_other_keys_are_used(
    certified: CertifiedCluster,
) -> None:
    """An authority signs another one, whose key is RSA; Krapao has a key of RSA in PKCS #8, Miwen one of Ed25519."""
    lab, cert_manager, namespace = certified.lab, certified.cert_manager, "below"
    certified.authority(namespace, encoding="PKCS1")
    lab.namespace("cert-manager")
    lab.namespace(namespace)
    certified.authority("cert-manager")
    rsa = {"algorithm": "RSA", "size": 2048}
    below = certificate(
        "cert-manager", "below", "ours", isCA=True, commonName="Below", duration="8760h", privateKey=rsa
    )
    everywhere = {**issuer("", "everywhere", ca={"secretName": "below"}), "kind": "ClusterIssuer"}
    del everywhere["metadata"]["namespace"]
    cert_manager.put(below, everywhere)
    ref = {"issuerRef": {"name": "everywhere", "kind": "ClusterIssuer", "group": "cert-manager.io"}}
    made = certified.certificates(
        namespace,
        krapao={**ref, "privateKey": {**rsa, "encoding": "PKCS8"}},
        miwen={**ref, "privateKey": {"algorithm": "Ed25519"}},
    )
    cert_manager.until_ready(*made.values())
    chain = x509.load_pem_x509_certificates(certified.parts(namespace, "krapao-tls")["tls.crt"])
    assert len(chain) == 2
    with certified.running(namespace):
        lab.until_synced(namespace, "app", certified.put_decryptor(namespace))


# From Miwen to cert-manager, and back


def test_a_miwen_that_is_to_make_them_too_leaves_them_to_cert_manager(certified: CertifiedCluster) -> None:
    """It made them first. cert-manager takes them over as they are, and replaces them once they are old, or gone."""
    lab, cert_manager, namespace = certified.lab, certified.cert_manager, "both"
    certified.authority(namespace)
    with certified.running(namespace, "--make-certificates") as pair:
        lab.until_synced(namespace, "app", certified.put_decryptor(namespace))
        assert "certificates_written" in pair.miwen.log_text()
    issued = {end: certified.parts(namespace, f"{end}-tls") for end in USAGES}
    made = certified.certificates(namespace)
    cert_manager.until_ready(*made.values())
    until(
        "it has taken them over", lambda: all(CERT_MANAGERS in one["labels"] for one in certified.metadata(namespace))
    )
    before = certified.metadata(namespace)
    assert all(each["labels"]["app.kubernetes.io/managed-by"] == "jiemi" for each in before)
    assert {end: certified.parts(namespace, f"{end}-tls") for end in USAGES} == issued
    with certified.running(namespace, "--make-certificates") as pair:
        log = pair.miwen.log_text
        until("Miwen sees whose they are", lambda: "certificates_of_others" in log(), on_failure=log)
        lab.until_synced(namespace, "app", certified.put_decryptor(namespace))
        assert "certificates_written" not in log()
    assert certified.metadata(namespace) == before

    certified.delete_secrets(namespace, "krapao-tls", "miwen-tls")
    authority = leaf(certified.parts(namespace, "ca")["tls.crt"])
    until(
        "cert-manager makes its own",
        lambda: all(is_of(certified.parts(namespace, f"{end}-tls"), authority) for end in USAGES),
    )
    with certified.running(namespace):
        lab.until_synced(namespace, "app", certified.put_decryptor(namespace))

    # And back.
    for manifest in made.values():
        lab.admin.call("DELETE", lab.admin.path_of(manifest)).ok()
    certified.delete_secrets(namespace, "krapao-tls", "miwen-tls")
    with certified.running(namespace, "--make-certificates") as pair:
        lab.until_synced(namespace, "app", certified.put_decryptor(namespace))
        assert "certificates_written" in pair.miwen.log_text()
        assert all(CERT_MANAGERS not in one["labels"] for one in certified.metadata(namespace))
