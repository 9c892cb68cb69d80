"""No plaintext and no credential is found where it must not be: logs, status, Events, command lines, files on disks.

The values are canaries, unmistakable texts. They are searched for as they are, in base64 and in hexadecimal, while
everything runs and afterwards, after successes and after one failure of each kind that handles secrets.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from doubles.github import GitHub, Installation
from pyrage import x25519
from support.canaries.command_lines import watching_command_lines
from support.canaries.disk_search import contents, new_files_of_the_machine
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, git_server
from support.e2e.scene import METRICS, metrics_page
from support.krapao.ssh_keys import made, public_key, written
from support.network.https import authority, client_of, server_of
from support.network.listening import listening
from support.network.ssh_server import ssh_server

from jiemi.core.sensitive import SensitiveText

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-canary"
PLAIN = "canary-plaintext-5f3a9c"
TOKEN = "canary-git-token-81d2e7"
BEARER = "canary-bearer-token-c41b90"
PASSPHRASE = "canary-passphrase-2e7d15"
PROXY_PASSWORD = "canary-proxy-password-0d3fa7"
BAD_KEY = "canary-bad-key-77aa01"
BAD_DATA = "canary-bad-data-c0ffee"


def _wants_a_login(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")


_OF_APP = {"appId": "ID", "privateKey": "PrivateKey", "baseUrl": "BaseURL"}


def _secret(name: str, **values: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})


def _of_client(key: str) -> dict[str, dict[str, str]]:
    fields = {"caBundle": "ca", "clientCertificate": "cert", "clientKey": key}
    return {field: {"secretName": "client", "key": name} for field, name in fields.items()}


def _of_ssh(passphrase: str) -> dict[str, dict[str, str]]:
    fields = {"ssh": "ssh", "passphrase": passphrase, "knownHosts": "known"}
    return {field: {"secretName": "ssh", "key": name} for field, name in fields.items()}


def test_canaries_are_found_nowhere(lab: Lab, pgp_key: str, tmp_path: Path) -> None:
    lab.namespace(NAMESPACE)
    stranger = x25519.Identity.generate()
    pgp_line = pgp_key.splitlines()[5]
    signer = authority()
    certificate, client_key = client_of(signer)
    client_line = client_key.splitlines()[1]
    deploy = made("ed25519")
    own_key = written(deploy, PrivateFormat.OpenSSH, PASSPHRASE)
    ssh_lines = [key.splitlines()[2] for key in (own_key, written(deploy, PrivateFormat.OpenSSH))]
    host_key = paramiko.ECDSAKey.generate()
    given_to_host = (TOKEN, BEARER, PROXY_PASSWORD, PASSPHRASE, client_line, *ssh_lines)
    github = GitHub(installations={12: Installation("acme", ("app",))})
    app_line = github.pem().splitlines()[4]
    canaries = forms_of(PLAIN, *given_to_host, app_line, BAD_KEY, BAD_DATA, str(lab.identity), str(stranger), pgp_line)
    started = time.time()
    with (
        git_server(lab.folder / "token", username="me", token=SensitiveText(TOKEN)) as private,
        git_server(lab.folder / "bearer", bearer=SensitiveText(BEARER)) as bearing,
        git_server(lab.folder / "tls", tls=server_of(signer, tmp_path, clients_of=signer)) as secured,
        git_server(lab.folder / "app", tls=server_of(signer, tmp_path), intercept=github.intercept) as github.server,
        ssh_server(lab.folder / "tls" / "git", [public_key(deploy)], [host_key]) as (ssh_port, _),
        listening(_wants_a_login) as (proxy_port, _),
        watching_command_lines() as command_lines,
    ):
        state = ("--state-dir", tmp_path / "state")
        krapao, address = lab.start_krapao("--log-format", "json", *METRICS, *state, name="canary")
        miwen = lab.start_miwen(address, NAMESPACE, "--log-format", "json", *METRICS, interval="1s")
        repository = lab.repository()
        revision = repository.commit(
            {
                "good.yaml": lab.encrypt(_secret("good", value=PLAIN)),
                "rejected.yaml": lab.encrypt(_secret("rejected", **{"not a key!": BAD_DATA})),
                "no-object.yaml": lab.encrypt(json.dumps({"apiVersion": PLAIN, "kind": BAD_DATA})),
                "unknown.yaml": lab.encrypt(
                    json.dumps({"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}})
                ),
                "broken.yaml": lab.encrypt(_secret("broken", value=PLAIN)).replace(b"data:", b"data:A", 1),
                "unencrypted.yaml": b"plain: text\n",
                "pgp.yaml": (Path(__file__).parents[1] / "data" / "sops-3.9.4" / "all.yaml").read_bytes(),
            }
        )
        key = {"age": {"privateKey": {"literal": str(lab.identity)}}}
        lab.secret(NAMESPACE, "keys", age=str(lab.identity), bad=BAD_KEY, stranger=str(stranger), pgp=pgp_key)
        by_secret = {"age": {"privateKey": {"secretName": "keys", "key": "age"}}}
        cases = {
            "good": ("good.yaml", by_secret, "Synced"),
            "rejected": ("rejected.yaml", key, "ApplyRejected"),
            "no-object": ("no-object.yaml", key, "NotAKubernetesObject"),
            "unknown": ("unknown.yaml", key, "KindUnknown"),
            "broken": ("broken.yaml", key, "MacMismatch"),
            "unencrypted": ("unencrypted.yaml", key, "NotEncrypted"),
            "stranger": ("good.yaml", {"age": {"privateKey": {"secretName": "keys", "key": "stranger"}}}, "KeyMissing"),
            "bad-key": ("good.yaml", {"age": {"privateKey": {"secretName": "keys", "key": "bad"}}}, "KeyInvalid"),
            "bad-pgp": ("pgp.yaml", {"pgp": {"privateKey": {"literal": BAD_KEY}}}, "KeyInvalid"),
            "pgp": ("pgp.yaml", {"pgp": {"privateKey": {"secretName": "keys", "key": "pgp"}}}, "KeyMissing"),
        }
        for name, (file, provider, _) in cases.items():
            lab.admin.apply(lab.decryptor(NAMESPACE, name, repository.url, file=file, provider=provider)).ok()
        credentials = {"username": {"literal": "me"}, "token": {"literal": TOKEN}}
        url = private.create("empty.git")
        lab.admin.apply(lab.decryptor(NAMESPACE, "token", url, repository={"credentials": credentials})).ok()
        refused = {"username": {"literal": BAD_KEY}, "token": {"literal": TOKEN}}
        lab.admin.apply(lab.decryptor(NAMESPACE, "refused", url, repository={"credentials": refused})).ok()

        bundle = signer.certificate_pem().decode()
        lab.secret(NAMESPACE, "client", cert=certificate, key=client_key, ca=bundle, cut=client_key[:-30])
        whole = {"tls.crt": certificate, "tls.key": client_key, "ca.crt": bundle}
        lab.secret(NAMESPACE, "whole", **whole)
        lab.secret(NAMESPACE, "whole-two", **whole, username="me", password=TOKEN, bearerToken=BEARER)
        empty = (bearing.create("empty.git"), secured.create("empty.git"))
        lab.secret(
            NAMESPACE,
            "app",
            **{"githubAppID": github.app_id, "githubAppPrivateKey": github.pem(), "ca.crt": bundle},
            githubAppBaseURL=github.base_url,
        )
        app = {field: {"secretName": "app", "key": f"githubApp{key}"} for field, key in _OF_APP.items()}
        other_app = {"githubApp": {**app, "appId": {"literal": "1"}}, "caBundle": {"secretName": "client", "key": "ca"}}
        of_app = github.create("acme", "app")
        over_ssh = f"ssh://git@127.0.0.1:{ssh_port}/empty.git"
        known = f"[127.0.0.1]:{ssh_port} {host_key.get_name()} {host_key.get_base64()}"
        lab.secret(NAMESPACE, "ssh", ssh=own_key, right=PASSPHRASE, wrong=BAD_KEY, known=known)
        others = {
            "bearer": (empty[0], {"bearer": {"literal": BEARER}}, "RefNotFound"),
            "bearer-refused": (empty[0], {"bearer": {"literal": BAD_KEY}}, "RepositoryAccessDenied"),
            "bearer-malformed": (empty[0], {"bearer": {"literal": f"Bearer {BEARER}"}}, "RepositoryAccessDenied"),
            "client": (empty[1], _of_client("key"), "RefNotFound"),
            "whole": (empty[1], {"secretName": "whole"}, "RefNotFound"),
            "whole-two": (empty[1], {"secretName": "whole-two"}, "InvalidSpec"),
            "client-cut": (empty[1], _of_client("cut"), "RepositoryAccessDenied"),
            "ssh": (over_ssh, _of_ssh("right"), "RefNotFound"),
            "app": (of_app, {"secretName": "app"}, "RefNotFound"),
            "app-refused": (of_app, other_app, "RepositoryAccessDenied"),
            "ssh-wrong": (over_ssh, _of_ssh("wrong"), "RepositoryAccessDenied"),
        }
        proxy_login = {"address": f"http://127.0.0.1:{proxy_port}", "username": "me", "password": PROXY_PASSWORD}
        lab.secret(NAMESPACE, "proxy", **proxy_login)
        proxied = {"credentials": credentials, "proxy": {"secretName": "proxy"}}
        lab.admin.apply(lab.decryptor(NAMESPACE, "proxied", url, repository=proxied)).ok()
        for name, (url, given, _) in others.items():
            lab.admin.apply(lab.decryptor(NAMESPACE, name, url, repository={"credentials": given})).ok()

        for name, (_, _, reason) in cases.items():
            lab.until_reason(NAMESPACE, name, reason)
        lab.until_reason(NAMESPACE, "token", "RefNotFound")
        lab.until_reason(NAMESPACE, "refused", "RepositoryAccessDenied")
        lab.until_reason(NAMESPACE, "proxied", "ProxyRefused")
        for name, (_, _, reason) in others.items():
            lab.until_reason(NAMESPACE, name, reason)
        lab.until_synced(NAMESPACE, "good", revision)
        assert lab.data(NAMESPACE, "good") == {"value": PLAIN}
        for service in (krapao, miwen):
            limits = Path(f"/proc/{service.process.pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE), limits
        # One more round of ticks, failures included.
        time.sleep(2)
        pages = {f"metrics of {each.name}": metrics_page(each).encode() for each in (krapao, miwen)}
        lab.end_services()

    told = {
        f"status of {item['metadata']['name']}": json.dumps(item.get("status")).encode()
        for item in lab.admin.call("GET", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors").ok()["items"]
    }
    assert len(told) == len(cases) + len(others) + 3
    events = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events").ok()
    told["events"] = json.dumps(events["items"]).encode()
    told["logs"] = lab.logs().encode()
    assert b"MacMismatch" in told["logs"]
    told |= pages
    assert b'outcome="MacMismatch"' in told["metrics of krapao"]
    assert b'reason="MacMismatch"' in told["metrics of miwen"]
    told |= {f"command line {number}": line for number, line in enumerate(command_lines)}
    assert any(b"decrypt" in line for line in command_lines), "no run of sops was seen: the watcher is too slow"
    on_disk = contents(tmp_path)
    assert any(".pack" in name or "objects" in name for name in on_disk)
    told |= on_disk
    told |= new_files_of_the_machine(started)
    tokens = [each.rsplit(".")[-1] for each in github.seen if each.startswith("Bearer ")]
    assert github.tokens
    assert tokens
    canaries |= forms_of(*github.tokens, *tokens)
    assert found_in(told, canaries) == []
    for form in (base64.b64encode(b"x" + PLAIN.encode()), PLAIN.encode().hex().encode()):
        assert found_in({"check": form}, canaries) == ["check"]
