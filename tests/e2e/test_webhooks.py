"""Webhooks on a real API server, with a real git server and sops: a signed push is in the cluster at once."""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.e2e.lab import Lab, Service, git_server, until
from support.e2e.scene import METRICS, Scene, forget_decryptors, metrics_page, secret
from support.kubernetes.api_server import ApiServer
from support.metrics_pages import total
from support.network.https import authority, server_of
from support.webhooks.delivery import deliver, webhooks_port
from support.webhooks.requests import SECRET, Request, request
from support.webhooks.signed import Issuer, oidc_request

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-webhooks"
OTHER = "another-secret-of-many-characters"
LISTEN = ("--webhooks-listen", "127.0.0.1:0")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/jiemi/leases/jiemi-miwen"
INTERVAL = "1h"
"""No test waits for it: what is seen sooner was seen by a webhook."""


def _webhook(namespace: str, kind: str = "github", **secrets: str) -> dict[str, Any]:
    metadata = {"name": "hook", "namespace": namespace, "labels": {"jiemi.cr/webhook": kind}}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secrets.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _push(url: str) -> Request:
    return request("github", urls=(url, url))


@pytest.fixture(scope="module")
def miwen(lab: Lab) -> Iterator[Service]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="webhooks")
    yield lab.start_miwen(address, NAMESPACE, *LISTEN, *METRICS, interval=INTERVAL)
    lab.end_services()


def test_a_signed_push_is_in_the_cluster_without_waiting_for_the_interval(lab: Lab, miwen: Service) -> None:
    scene = Scene(lab, NAMESPACE)
    repository, _ = scene.follow("app", secret("app", value="first"))
    lab.admin.apply(_webhook(NAMESPACE, token=SECRET)).ok()
    until("the webhook is there", lambda: total(metrics_page(miwen), "jiemi_webhooks") == 1, on_failure=lab.logs)
    took = []
    for number in range(10):
        value = {"value": f"v{number}"}
        scene.commit(repository, secret("app", **value))
        sent = _push(repository.url)
        assert deliver(miwen, sent.with_body(sent.body + b" "), NAMESPACE, "hook") == 403
        assert deliver(miwen, sent.without("x-hub-signature-256"), NAMESPACE, "hook") == 403
        assert deliver(miwen, sent, NAMESPACE, "other") == 403
        assert scene.data("app") != value
        began = time.monotonic()
        assert deliver(miwen, sent, NAMESPACE, "hook") == 202
        until("it is deployed", lambda value=value: scene.data("app") == value, on_failure=lab.logs)  # type: ignore[misc]
        took.append(time.monotonic() - began)
        assert deliver(miwen, sent, NAMESPACE, "hook") == 202
    sys.stderr.write(f"\nfrom the webhook to the Secret: {[round(each, 3) for each in sorted(took)]} (seconds)\n")
    page = metrics_page(miwen)
    counted = {
        outcome: total(page, "jiemi_webhook_requests_total", outcome=outcome)
        for outcome in ("push", "duplicate", "forged", "unsigned", "unknown", "rate_limited")
    }
    assert counted == {"push": 10, "duplicate": 10, "forged": 10, "unsigned": 10, "unknown": 10, "rate_limited": 0}
    assert SECRET not in miwen.log_text()
    assert sent.fields[-1][1] not in miwen.log_text()


def test_a_secret_that_is_replaced_counts_at_once_and_the_old_one_no_longer(lab: Lab, miwen: Service) -> None:
    url = "https://git.example/not-followed"
    old = _push(url)
    lab.admin.apply(_webhook(NAMESPACE, token=OTHER)).ok()
    until("the new secret counts", lambda: deliver(miwen, _push(url), NAMESPACE, "hook") == 403, on_failure=lab.logs)
    assert deliver(miwen, old, NAMESPACE, "hook") == 403
    lab.admin.apply(_webhook(NAMESPACE, token=OTHER, old=SECRET)).ok()
    until("both count", lambda: deliver(miwen, _push(url), NAMESPACE, "hook") == 202, on_failure=lab.logs)


def test_a_secret_that_declares_no_usable_webhook_says_so_in_its_events(lab: Lab, miwen: Service) -> None:
    broken = _webhook(NAMESPACE, token="canary-7c1e")
    broken["metadata"]["name"] = "broken"
    lab.admin.apply(broken).ok()

    def notes() -> list[str]:
        found = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events").ok()["items"]
        return [each["note"] for each in found if each["regarding"].get("name") == "broken"]

    until("it is reported", lambda: bool(notes()), on_failure=lab.logs)
    assert notes() == ["No webhook is taken by this Secret: key token: it must have 16 to 4096 characters."]
    assert "canary" not in miwen.log_text()


def test_one_that_waits_for_its_turn_sends_a_push_on_under_the_shipped_rights(lab: Lab, installed: ApiServer) -> None:
    forget_decryptors(lab)
    installed.call("DELETE", LEASE)
    scene = Scene(lab, lab.namespace("e2e-webhooks-pair"))
    _, address = lab.start_krapao(name="webhooks-pair")
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    repository = lab.repository()
    scene.commit(repository, secret("app", value="first"))
    lab.admin.apply(_webhook(scene.namespace, token=SECRET)).ok()

    def start(port: int) -> Service:
        return lab.start(
            *("miwen", "--krapao", address, "--kubeconfig", kubeconfig, "--interval", INTERVAL),
            *("--lease", "jiemi/jiemi-miwen", "--webhooks-listen", f"127.0.0.1:{port}"),
            *("--webhooks-address", "127.0.0.1"),
        )

    try:
        active = start(_free_port())
        until("it leads", lambda: "lease_acquired" in active.log_text(), on_failure=lab.logs)
        waiting = start(_free_port())
        until("the other listens", lambda: webhooks_port(waiting), on_failure=lab.logs)
        until("it knows the webhook", lambda: '"webhook"' in waiting.log_text(), on_failure=lab.logs)
        scene.put("app", repository.url)
        until("it is applied", lambda: scene.data("app") == {"value": "first"}, on_failure=lab.logs)
        assert "lease_acquired" not in waiting.log_text()
        scene.commit(repository, secret("app", value="second"))
        assert deliver(waiting, _push(repository.url), scene.namespace, "hook") == 202
        until("it is deployed", lambda: scene.data("app") == {"value": "second"}, on_failure=lab.logs)
    finally:
        lab.end_services()
        forget_decryptors(lab)
        installed.call("DELETE", LEASE)


def test_a_push_with_a_token_of_an_openid_provider_is_in_the_cluster_at_once(lab: Lab, tmp_path: Path) -> None:
    namespace = "e2e-webhooks-oidc"
    lab.namespace(namespace)
    signer, pages = authority(), dict[str, bytes]()

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, pages[path]) if path in pages else (404, {}, b"")

    (tmp_path / "ca.pem").write_bytes(signer.certificate_pem())
    with git_server(tmp_path / "issuer", tls=server_of(signer, tmp_path), intercept=answer) as served:
        issuer = Issuer(served.url)
        pages |= {"/.well-known/openid-configuration": issuer.description(), "/keys": issuer.keys()}
        trust = {"issuer": issuer.url, "audience": "jiemi", "subject": "repo:acme/app:ref:refs/heads/*"}
        allowed = ("--webhooks-allow-address", "127.0.0.1", "--webhooks-ca-bundle", tmp_path / "ca.pem")
        _, address = lab.start_krapao(name="webhooks-oidc")
        miwen = lab.start_miwen(address, namespace, *LISTEN, *allowed, *METRICS, interval=INTERVAL)
        scene = Scene(lab, namespace)
        repository, _ = scene.follow("app", secret("app", value="first"))
        lab.admin.apply(_webhook(namespace, "oidc", **trust)).ok()
        until("the webhook is there", lambda: total(metrics_page(miwen), "jiemi_webhooks") == 1, on_failure=lab.logs)
        scene.commit(repository, secret("app", value="second"))
        body = json.dumps({"repository": repository.url, "ref": "refs/heads/main"}).encode()
        at = int(time.time())
        times: dict[str, Any] = {"iat": at, "nbf": at, "exp": at + 300}
        genuine = oidc_request(issuer.token("ES256", **times), body)
        for forged in (Issuer(issuer.url).token("ES256", **times), issuer.token(**(times | {"aud": "other"}))):
            assert deliver(miwen, oidc_request(forged, body), namespace, "hook") == 403
        assert scene.data("app") == {"value": "first"}
        assert deliver(miwen, genuine, namespace, "hook") == 202
        until("it is deployed", lambda: scene.data("app") == {"value": "second"}, on_failure=lab.logs)
        for field in genuine.fields:
            assert field[1].removeprefix("Bearer ") not in miwen.log_text() or field[0] == "Content-Type"
        lab.end_services()
