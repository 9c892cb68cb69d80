"""Certificates that live for minutes, put where Miwen and the kubelet find them, as cert-manager does it."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import attrs
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from support.kubernetes.api_server import ApiServer
from support.metrics_pages import total
from support.network.tls_folders import USAGES, now

from jiemi.certificates import Issued, Subject, issue
from jiemi.miwen.certificates.secrets import AUTHORITIES_SECRET, KRAPAO_SECRET
from jiemi.rpc.tls_names import AUTHORITIES, CERTIFICATE, KEY, KRAPAO_NAME, MIWEN_NAME

_SECRETS = "/api/v1/namespaces/jiemi/secrets"
_NAMES = {KRAPAO_NAME: KRAPAO_SECRET, MIWEN_NAME: "miwen-tls"}


@attrs.frozen
class Rotation:
    """Certificates of the authority that Miwen made."""

    api: ApiServer

    def renew(self, lifetime: datetime.timedelta) -> float:
        """Put new ones into both Secrets; returns when they end, in seconds since 1970."""
        authority, accepted = self._authority()
        ends = 0.0
        for name, secret in _NAMES.items():
            made = issue(authority, Subject(name, (USAGES[name],), (name,)), now(), lifetime)
            parts = {CERTIFICATE: made.certificate_pem(), KEY: made.key_pem(), AUTHORITIES: accepted}
            data = {part: base64.b64encode(value).decode() for part, value in parts.items()}
            self.api.call(
                "PATCH", f"{_SECRETS}/{secret}", {"data": data}, content_type="application/merge-patch+json"
            ).ok()
            ends = made.certificate.not_valid_after_utc.timestamp()
        return ends

    def _authority(self) -> tuple[Issued, bytes]:
        data = self.api.call("GET", f"{_SECRETS}/{AUTHORITIES_SECRET}").ok()["data"]
        parts = {part: base64.b64decode(value) for part, value in data.items()}
        key = load_pem_private_key(parts[KEY], password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return Issued(x509.load_pem_x509_certificate(parts[CERTIFICATE]), key), parts[AUTHORITIES]


def page(pod: Any) -> str:
    """The metrics of a Pod."""
    address = pod["status"]["podIP"]
    return urllib3.request("GET", f"http://{address}:9090/metrics", timeout=10, retries=False).data.decode()


def shown_end(pod: Any) -> float:
    """When the certificate ends that a Pod shows, in seconds since 1970."""
    return total(page(pod), "jiemi_certificate_not_after_timestamp_seconds")


def failed_calls(pod: Any) -> dict[str, float]:
    """How many calls of Krapao failed in a Pod of Miwen, by the call and what came of it.

    A repository that goes back to a Krapao which was restarted, and that moved meanwhile, can't be compared there: the
    host has named no earlier revision to that Krapao. It says so, and all its Decryptors look at their files.
    """
    from prometheus_client.parser import text_string_to_metric_families

    failed = {
        f"{sample.labels['method']} {sample.labels['outcome']}": sample.value
        for family in text_string_to_metric_families(page(pod))
        for sample in family.samples
        if sample.name == "jiemi_krapao_calls_total" and sample.labels["outcome"] not in ("ok", "cancelled")
    }
    return {call: count for call, count in failed.items() if call != "changes RevisionNotFound"}
