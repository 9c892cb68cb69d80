"""Tokens that nobody keeps in a Secret are found nowhere either: a GitHub App's, which Krapao is given, and those of an
OpenID provider, which come with webhooks.

Logs at debug, traces, Events, status, metrics, command lines and disks of both services are searched, after successes
and after each way in which a host, an API or a stranger sends a token back.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from doubles.github import API, Answered, GitHub, Installation
from support.canaries.command_lines import watching_command_lines
from support.canaries.disk_search import contents, new_files_of_the_machine
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, git_server, until
from support.e2e.scene import METRICS, metrics_page
from support.metrics_pages import total
from support.network.https import authority, server_of
from support.traces.collector import collector
from support.webhooks.delivery import deliver
from support.webhooks.requests import Request
from support.webhooks.signed import Issuer, oidc_request

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-canary-tokens"
LOGS = ("--log-format", "json", "--log-level", "debug")
LISTEN = ("--webhooks-listen", "127.0.0.1:0")


def _pkt(text: str) -> bytes:
    return f"{len(text) + 4:04x}{text}".encode()


@attrs.define
class Echoing(GitHub):
    """One that sends back what it is shown, for some repositories.

    Attributes:
        issued: every token that it gave out.
    """

    issued: set[str] = attrs.field(factory=set)

    def intercept(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answered | None:
        given = headers.get("Authorization", "")
        told = base64.b64decode(given.partition(" ")[2]).decode() if given.startswith("Basic ") else given
        if path.startswith(f"{API}/repos/acme/api/"):
            self.seen.append(given)
            return 403, {}, json.dumps({"message": f"{given} may not do that"}).encode()
        found = super().intercept(method, path, headers, body)
        self.issued |= set(self.tokens)
        if found is not None or path.startswith("/acme/app.git"):
            return found
        if path.startswith("/acme/error.git"):
            said = _pkt(f"ERR {told} is tired, and so is {told.partition(':')[2]}\n")
            return 200, {"Content-Type": "application/x-git-upload-pack-advertisement"}, said
        if path.startswith("/acme/redirect.git"):
            return 302, {"Location": f"https://127.0.0.1:9/{told.partition(':')[2]}"}, b""
        return 403, {"WWW-Authenticate": f'Basic realm="{told}"'}, f"{told} may not do that".encode()


def _webhook(**values: str) -> dict[str, Any]:
    metadata = {"name": "hook", "namespace": NAMESPACE, "labels": {"jiemi.cr/webhook": "oidc"}}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _requests(issuer: Issuer, url: str) -> list[tuple[Request, int]]:
    """What is sent to the webhook, and the status that it gets."""
    body = json.dumps({"repository": url, "ref": "refs/heads/main"}).encode()
    at = int(time.time())
    times: dict[str, Any] = {"iat": at, "nbf": at, "exp": at + 300}
    genuine = oidc_request(issuer.token("ES256", **times), body)
    refused = (
        Issuer(issuer.url).token("ES256", **times),
        issuer.token(**(times | {"aud": "other"})),
        issuer.token(sub="repo:evil/app:ref:refs/heads/main", **times),
        issuer.token(**(times | {"iat": at - 9_000, "nbf": at - 9_000, "exp": at - 8_700})),
        issuer.token(header={"crit": ["x"]}, **times),
        issuer.token(header={"kid": "nobody's"}, **times),
        issuer.token("EdDSA", **times)[:-9],
        f"{issuer.token(**times)}.more",
    )
    twice = issuer.token("PS256", **times)
    return [
        (genuine, 202),
        (genuine, 202),
        *((oidc_request(each, body), 403) for each in refused),
        (oidc_request(twice, body).with_field("X-Authorization", f"Bearer {twice}"), 202),
        (oidc_request(issuer.token("RS256", **times), b'{"repository": 5'), 400),
    ]


def test_tokens_of_apps_and_of_openid_providers_are_found_nowhere(lab: Lab, tmp_path: Path) -> None:
    lab.namespace(NAMESPACE)
    signer, pages = authority(), dict[str, bytes]()
    (tmp_path / "ca.pem").write_bytes(signer.certificate_pem())
    tls = server_of(signer, tmp_path)
    names = ("app", "error", "redirect", "page", "api")
    github = Echoing(
        installations={12: Installation("acme", names), 13: Installation("late", ("x",), is_suspended=True)}
    )

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, pages[path]) if path in pages else (404, {}, b"")

    started = time.time()
    with (
        git_server(lab.folder / "apps", tls=tls, intercept=github.intercept) as github.server,
        git_server(lab.folder / "issuer", tls=tls, intercept=answer) as served,
        collector() as traces,
        watching_command_lines() as command_lines,
    ):
        issuer = Issuer(served.url)
        pages |= {"/.well-known/openid-configuration": issuer.description(), "/keys": issuer.keys()}
        flags = (*LOGS, *METRICS, "--traces-endpoint", traces.url)
        krapao, address = lab.start_krapao(*flags, "--state-dir", tmp_path / "state", name="canary-tokens")
        allowed = ("--webhooks-allow-address", "127.0.0.1", "--webhooks-ca-bundle", tmp_path / "ca.pem")
        miwen = lab.start_miwen(address, NAMESPACE, *flags, *LISTEN, *allowed, interval="1s")
        lab.secret(
            NAMESPACE,
            "app",
            githubAppID=github.app_id,
            githubAppPrivateKey=github.pem(),
            **{"ca.crt": signer.certificate_pem().decode(), "githubAppBaseURL": github.base_url},
        )
        urls = {name: github.create("acme", name) for name in names} | {"suspended": github.create("late", "x")}
        for name, url in urls.items():
            repository = {"credentials": {"secretName": "app"}}
            lab.admin.apply(lab.decryptor(NAMESPACE, name, url, repository=repository)).ok()
        reasons = {
            "app": "RefNotFound",
            "error": "GitProtocolError",
            "redirect": "InvalidUrl",
            "page": "RepositoryAccessDenied",
            "api": "RepositoryAccessDenied",
            "suspended": "RepositoryAccessDenied",
        }
        for name, reason in reasons.items():
            lab.until_reason(NAMESPACE, name, reason)
        asked = len(github.asked)
        github.tokens.clear()  # the host takes none of them any longer
        until("it logs in again", lambda: len(github.asked) > asked, on_failure=lab.logs)

        subject = "repo:acme/app:ref:refs/heads/*"
        lab.admin.apply(_webhook(issuer=issuer.url, audience="jiemi", subject=subject)).ok()
        until("the webhook is there", lambda: total(metrics_page(miwen), "jiemi_webhooks") == 1, on_failure=lab.logs)
        sent = _requests(issuer, urls["app"])
        assert [deliver(miwen, each, NAMESPACE, "hook") for each, _ in sent] == [status for _, status in sent]
        time.sleep(2)  # one more round of ticks
        told = {f"metrics of {each.name}": metrics_page(each).encode() for each in (krapao, miwen)}
        lab.end_services()

    path = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors"
    for item in lab.admin.call("GET", path).ok()["items"]:
        told[f"status of {item['metadata']['name']}"] = json.dumps(item.get("status")).encode()
    events = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events").ok()
    told["events"] = json.dumps(events["items"]).encode()
    told["logs"] = lab.logs().encode()
    told |= {f"trace {number}": body for number, body in enumerate(traces.bodies)}
    told |= {f"command line {number}": line for number, line in enumerate(command_lines)}
    told |= contents(tmp_path) | new_files_of_the_machine(started)
    assert b"RepositoryAccessDenied" in told["events"]
    assert b"is tired" in told["status of error"], "the host's words are shown, without the token"
    assert {"listing", "tick"} <= {span.name for span in traces.spans}
    assert {span.reason for span in traces.spans} >= {"GitProtocolError", "RepositoryAccessDenied"}

    app = [each.removeprefix("Bearer ") for each in github.seen if each.startswith("Bearer ")]
    oidc = [dict(each.fields)["Authorization"].removeprefix("Bearer ") for each, _ in sent]
    assert len(github.issued) > 3
    assert len(app) > 5
    signatures = [each.split(".")[2] for each in (*app, *oidc)]
    canaries = forms_of(*github.issued, *app, *oidc, *signatures, github.pem().splitlines()[4])
    assert found_in(told, canaries) == []
    assert found_in({"check": oidc[0].encode()}, canaries) == ["check"]
