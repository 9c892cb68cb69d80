"""What users do wrong with cert-manager's certificates: what Jiemi says of it, and that this mends it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from support.e2e.certified import CertifiedCluster, is_of, leaf
from support.e2e.lab import until
from support.e2e.scene import condition
from support.network.tls_folders import TestAuthority, write_parts

pytestmark = pytest.mark.e2e


@attrs.frozen
class Mistake:
    """Certificates that are asked for wrongly.

    Attributes:
        wrong: what is another in the spec, by the end's name.
        reason: of the Decryptor.
        words: what its message says; NAMESPACE stands for the namespace.
    """

    wrong: Mapping[str, Mapping[str, Any]]
    reason: str
    words: tuple[str, ...]


NOBODY = {"issuerRef": {"name": "nobody", "kind": "Issuer", "group": "cert-manager.io"}}
OWN = {"issuerRef": {"name": "own", "kind": "Issuer", "group": "cert-manager.io"}}
MISTAKES = {
    "Miwen's is of an Issuer that there is not": Mistake(
        {"miwen": NOBODY},
        "SecretNotFound",
        (
            "there is no Secret NAMESPACE/miwen-tls with Miwen's certificate",
            "`kubectl --namespace NAMESPACE describe certificate`",
        ),
    ),
    "Miwen's has another name": Mistake(
        {"miwen": {"dnsNames": ["miwen.jiemi.svc"]}},
        "KrapaoAccessDenied",
        (
            "is for miwen.jiemi.svc, and Krapao takes one for miwen",
            "(Miwen showed tls.crt of Secret NAMESPACE/miwen-tls)",
            "Give Miwen a certificate with the DNS name miwen",
        ),
    ),
    "Krapao's has another name": Mistake(
        {"krapao": {"dnsNames": ["repository-svc.jiemi.svc"]}},
        "KrapaoNotTrusted",
        (
            "certificate is not valid for 'krapao'",
            "Krapao one with the DNS name `krapao` and the usage `server auth`",
            "the Secrets `krapao-tls` and `miwen-tls`",
        ),
    ),
    "Miwen's is for servers": Mistake(
        {"miwen": {"usages": ["server auth"]}},
        "KrapaoNotTrusted",
        (
            "the certificate in tls.crt of Secret NAMESPACE/miwen-tls lacks the usage client auth",
            "Have it issued for client auth (of a Certificate of cert-manager, `usages`)",
        ),
    ),
    "each is an authority of its own": Mistake(
        {"krapao": OWN, "miwen": OWN},
        "KrapaoNotTrusted",
        (
            "(accepted are the authorities in ca.crt of Secret NAMESPACE/miwen-tls)",
            "Give both certificates of the same authority",
            "the Secrets `krapao-tls` and `miwen-tls`",
        ),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_with_the_secret_and_what_to_do_and_once_that_is_done_all_goes_on(
    name: str, certified: CertifiedCluster
) -> None:
    mistake, namespace = MISTAKES[name], f"mistake-{list(MISTAKES).index(name)}"
    lab, cert_manager = certified.lab, certified.cert_manager
    certified.authority(namespace)
    wrong = certified.certificates(namespace, **mistake.wrong)
    cert_manager.until_ready(*(each for each in wrong.values() if each["spec"]["issuerRef"]["name"] != "nobody"))
    with certified.running(namespace):
        revision = certified.put_decryptor(namespace)
        _says(certified, namespace, mistake.reason, *mistake.words)
        right = certified.certificates(namespace)
        cert_manager.until_ready(*right.values())
        lab.until_synced(namespace, "app", revision)


def _says(certified: CertifiedCluster, namespace: str, reason: str, *words: str) -> None:
    status = certified.lab.until_reason(namespace, "app", reason)
    message = condition(status, "Ready")["message"]
    for each in words:
        assert each.replace("NAMESPACE", namespace) in message


def test_an_authority_that_gets_another_key_is_accepted_once_both_certificates_are_of_it(
    certified: CertifiedCluster,
) -> None:
    """What `rotationPolicy: Never` of deploy/cert-manager/issuer keeps from happening by itself."""
    lab, cert_manager, namespace = certified.lab, certified.cert_manager, "another-key"
    authority = certified.authority(namespace, rotationPolicy="Always")
    made = certified.certificates(namespace)
    cert_manager.until_ready(*made.values())
    cert_manager.renew(authority)
    cert_manager.renew(made["krapao"])
    names = ("ca", "krapao-tls", "miwen-tls")
    with certified.running(namespace) as pair:
        revision = certified.put_decryptor(namespace)
        _says(
            certified,
            namespace,
            "KrapaoNotTrusted",
            "(accepted are the authorities in ca.crt of Secret NAMESPACE/miwen-tls)",
            "Give both certificates of the same authority",
        )
        cert_manager.renew(made["miwen"])
        lab.until_synced(namespace, "app", revision)

        # As where a key got out. Both are made again, in whatever order, and end with one authority.
        before = {name: certified.parts(namespace, name)["tls.crt"] for name in names}
        certified.delete_secrets(namespace, *names)

        def are_of_a_new_one() -> bool:
            found = {name: certified.parts(namespace, name) for name in names}
            return all("ca.crt" in each and each["tls.crt"] != before[name] for name, each in found.items()) and all(
                is_of(each, leaf(found["ca"]["tls.crt"])) for each in found.values()
            )

        until("all are made again", are_of_a_new_one)
        gone = "an authority is no longer trusted"
        until("sessions of the old one end", lambda: gone in pair.krapao.log_text(), on_failure=pair.krapao.log_text)
        lab.until_synced(namespace, "app", certified.put_decryptor(namespace))


def test_an_issuer_that_hands_out_no_authority_is_reported_by_both_and_another_one_mends_it(
    certified: CertifiedCluster,
) -> None:
    lab, cert_manager, namespace, group = certified.lab, certified.cert_manager, "no-authority", "acme.example"
    certified.authority(namespace)
    acme = {"issuerRef": {"name": "acme", "kind": "Issuer", "group": group}}
    made = certified.certificates(namespace, miwen=acme)
    cert_manager.issue_as_acme_does(namespace, group, TestAuthority().issued)
    cert_manager.until_ready(*made.values())
    assert set(certified.parts(namespace, "miwen-tls")) == {"tls.crt", "tls.key"}
    remedy = "Of cert-manager's issuers, those of kind CA do so, and those of kind ACME do not."
    with certified.running(namespace):
        revision = certified.put_decryptor(namespace)
        empty = "ca.crt of Secret NAMESPACE/miwen-tls is missing or empty."
        _says(certified, namespace, "KrapaoNotTrusted", empty, remedy)
        certified.certificates(namespace)
        lab.until_synced(namespace, "app", revision)

    made = certified.certificates(namespace, krapao=acme)
    cert_manager.issue_as_acme_does(namespace, group, TestAuthority().issued)
    until("it is issued", lambda: "ca.crt" not in certified.parts(namespace, "krapao-tls"))
    _krapao_does_not_start(certified, namespace, "ca.crt is missing or empty. Put the authority of the", remedy)


def test_krapao_does_not_start_with_a_certificate_for_clients_and_says_for_what_to_have_it_issued(
    certified: CertifiedCluster,
) -> None:
    namespace = "for-clients"
    certified.authority(namespace)
    made = certified.certificates(namespace, krapao={"usages": ["client auth"]})
    certified.cert_manager.until_ready(*made.values())
    _krapao_does_not_start(certified, namespace, "tls.crt lacks the usage server auth. Have it issued for server auth")


def _krapao_does_not_start(certified: CertifiedCluster, namespace: str, *words: str) -> None:
    volume = certified.lab.folder / f"{namespace}-refused"
    write_parts(volume, certified.parts(namespace, "krapao-tls"))
    command = ["krapao", "--listen", "tcp:127.0.0.1:0", "--tls-dir", volume, "--state-dir", f"{volume}-state"]
    done = subprocess.run(
        [sys.executable, "-m", "jiemi", *map(str, command), "--sops", certified.lab.tools["sops"]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "--tls-dir: " in said
    for each in words:
        assert each in said


def test_while_krapaos_secret_is_missing_the_message_says_what_its_pods_wait_for(certified: CertifiedCluster) -> None:
    """Such a Pod has no address, so no EndpointSlice names it."""
    lab, namespace = certified.lab, "no-krapao"
    certified.authority(namespace)
    made = certified.certificates(namespace, krapao=NOBODY)
    certified.cert_manager.until_ready(made["miwen"])
    lab.start_miwen("service:no-krapao/repository-svc", namespace, "--tls-secret", f"{namespace}/miwen-tls")
    try:
        certified.put_decryptor(namespace)
        _says(
            certified,
            namespace,
            "KrapaoUnavailable",
            "there is no Krapao: none of its Pods has an address",
            "they start once there are their volumes, one of which is the Secret `krapao-tls`",
        )
    finally:
        lab.end_services()
