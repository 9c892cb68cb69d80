"""From a webhook to the applied object: traces and log lines of both processes that lead from one to the other."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, Repository, Service, until
from support.signing.signers import SshSigner, ssh_signer
from support.traces.collector import Collector, Seen, collector, is_whole, paths
from support.webhooks.delivery import deliver
from support.webhooks.requests import SECRET, request

pytestmark = pytest.mark.e2e

LOGS = ("--log-format", "json", "--log-level", "debug")


def _commit(lab: Lab, repository: Repository, value: str, by: SshSigner | None) -> str:
    if by is not None:
        by.configure_by(repository.run)
    repository.run("config", "commit.gpgSign", "true" if by is not None else "false")
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"value": value}}
    return repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps(manifest))})


def _lines(service: Service) -> list[dict[str, str]]:
    return [json.loads(line) for line in service.log_text().splitlines()]


def _whole_trace(it: Collector, name: str, seen: set[str]) -> list[Seen]:
    """The spans of a trace that begins with that one and was not seen before."""

    def found() -> list[Seen] | None:
        for trace_id, spans in it.traces().items():
            if trace_id not in seen and any(each.name == name and not each.parent for each in spans):
                return spans if is_whole(spans) else None
        return None

    spans: list[Seen] = until(f"the trace of {name}", found)
    seen.add(spans[0].trace_id)
    return spans


def test_a_push_is_followed_from_its_webhook_to_the_objects_and_to_the_refusal_of_an_unsigned_one(
    lab: Lab, tmp_path: Path
) -> None:
    namespace = lab.namespace("e2e-push-traces")
    ann = ssh_signer(tmp_path, "ann")
    data = {"token": base64.b64encode(SECRET.encode()).decode()}
    metadata = {"name": "hook", "namespace": namespace, "labels": {"jiemi.cr/webhook": "github"}}
    lab.admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}).ok()
    lab.secret(namespace, "signers", ann=ann.line)
    repository = lab.repository()
    first = _commit(lab, repository, "first", ann)
    verify = {"provider": "ssh", "secretName": "signers"}
    with collector() as it:
        flags = (*LOGS, "--traces-endpoint", it.url)
        krapao, address = lab.start_krapao(*flags, name="push-traces")
        miwen = lab.start_miwen(address, namespace, *flags, "--webhooks-listen", "127.0.0.1:0", interval="1h")
        lab.admin.apply(lab.decryptor(namespace, "app", repository.url, repository={"verify": verify})).ok()
        lab.until_synced(namespace, "app", first)

        def push() -> None:
            sent = request("github", urls=(repository.url, repository.url))
            until("the webhook is taken", lambda: deliver(miwen, sent, namespace, "hook") == 202)

        seen: set[str] = set()
        _whole_trace(it, "tick", seen)
        second = _commit(lab, repository, "second", ann)
        push()
        lab.until_synced(namespace, "app", second)
        hook, tick = _whole_trace(it, "webhook", seen), _whole_trace(it, "tick", seen)
        assert paths(hook) >= {
            "miwen:webhook",
            "miwen:webhook miwen:push miwen:krapao.head krapao:krapao.head krapao:listing",
        }
        assert paths(tick) >= {
            "miwen:tick miwen:verify miwen:krapao.verify krapao:krapao.verify krapao:verify",
            "miwen:tick miwen:apply miwen:apply.object",
        }
        [root] = [each for each in tick if not each.parent]
        assert hook[0].trace_id in root.links
        assert root.attributes["jiemi.revision"] == second
        [received] = [each for each in _lines(miwen) if each["event"] == "webhook_received"]
        assert received["trace_id"] == hook[0].trace_id
        written = [each for each in _lines(miwen) if each["event"] == "status_written"][-1]
        assert (written["seen_by"], written["trace_id"]) == (hook[0].trace_id, root.trace_id)
        of_krapao = {each["event"]: each.get("trace_id") for each in _lines(krapao)}
        assert (of_krapao["listed"], of_krapao["verified"]) == (hook[0].trace_id, root.trace_id)

        _commit(lab, repository, "unsigned", None)
        push()
        lab.until_reason(namespace, "app", "SignatureMissing")
        hook, tick = _whole_trace(it, "webhook", seen), _whole_trace(it, "tick", seen)
        [root] = [each for each in tick if not each.parent]
        assert root.reason == "SignatureMissing"
        assert hook[0].trace_id in root.links
        assert {each.name for each in tick if each.reason} >= {"tick", "verify", "krapao.verify"}
        assert "miwen:tick miwen:decrypt" not in paths(tick)
        assert {each["event"]: each.get("trace_id") for each in _lines(krapao)}["not_verified"] == root.trace_id
        written = [each for each in _lines(miwen) if each["event"] == "status_written"][-1]
        assert (written["reason"], written["seen_by"]) == ("SignatureMissing", hook[0].trace_id)
        lab.end_services()
        told = {f"request {number}": body for number, body in enumerate(it.bodies)}
        told |= {each.name: each.log.read_bytes() for each in (krapao, miwen)}
        assert found_in(told, forms_of(SECRET, str(lab.identity))) == []
