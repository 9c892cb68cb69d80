"""From a webhook to the applied object: traces and log lines of both processes that lead from one to the other."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
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


def _whole_trace(it: Collector, what: str, begins: Callable[[Seen], bool]) -> list[Seen]:
    """The spans of the newest trace whose first span is such a one, once all of them have come."""

    def found() -> list[Seen] | None:
        for spans in reversed(list(it.traces().values())):
            if is_whole(spans) and any(begins(each) for each in spans if not each.parent):
                return spans
        return None

    spans: list[Seen] = until(f"the trace of {what}", found)
    return spans


def _hook_and_tick(it: Collector, trace_id: str) -> tuple[list[Seen], list[Seen]]:
    """The trace of a webhook, and that of the look that it woke."""
    hook = _whole_trace(it, "the webhook", lambda each: each.trace_id == trace_id)
    return hook, _whole_trace(it, "the look", lambda each: each.name == "tick" and trace_id in each.links)


def test_a_push_is_followed_from_its_webhook_to_the_objects_and_to_the_refusal_of_an_unsigned_one(
    lab: Lab, tmp_path: Path
) -> None:
    namespace = lab.namespace("e2e-push-traces")
    ann = ssh_signer(tmp_path, "ann")
    data = {"token": base64.b64encode(SECRET.encode()).decode()}
    metadata = {"name": "hook", "namespace": namespace, "labels": {"jiemi.cr/webhook": "github"}}
    lab.admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}).ok()
    lab.secret(namespace, "signers", **{"ann.pub": ann.line})
    repository = lab.repository()
    first = _commit(lab, repository, "first", ann)
    verify = {"provider": "ssh", "secretName": "signers"}
    with collector() as it:
        flags = (*LOGS, "--traces-endpoint", it.url)
        krapao, address = lab.start_krapao(*flags, name="push-traces")
        miwen = lab.start_miwen(address, namespace, *flags, "--webhooks-listen", "127.0.0.1:0", interval="1h")
        lab.admin.apply(lab.decryptor(namespace, "app", repository.url, repository={"verify": verify})).ok()
        lab.until_synced(namespace, "app", first)

        def push() -> str:
            """Returns the trace that the log names."""
            sent = request("github", urls=(repository.url, repository.url))
            until("the webhook is taken", lambda: deliver(miwen, sent, namespace, "hook") == 202)
            return [each for each in _lines(miwen) if each["event"] == "webhook_received"][-1]["trace_id"]

        second = _commit(lab, repository, "second", ann)
        trace_id = push()
        lab.until_synced(namespace, "app", second)
        hook, tick = _hook_and_tick(it, trace_id)
        assert paths(hook) >= {
            "miwen:webhook",
            "miwen:webhook miwen:push miwen:krapao.head krapao:krapao.head krapao:listing",
        }
        assert paths(tick) >= {
            "miwen:tick miwen:verify miwen:krapao.verify krapao:krapao.verify",
            "miwen:tick miwen:apply miwen:apply.object",
        }
        # Nothing of the revision is looked into before it is verified. Whoever asks first has that done: the
        # comparison, which is in the webhook's trace below what saw the move first, or the look.
        ends = (
            "miwen:move miwen:krapao.changes krapao:krapao.changes krapao:verify",
            "krapao:krapao.verify krapao:verify",
        )
        verified = [each for each in paths(hook) | paths(tick) if each.endswith(ends)]
        assert len(verified) == 1, sorted(paths(hook) | paths(tick))
        [root] = [each for each in tick if not each.parent]
        assert root.attributes["jiemi.revision"] == second
        written = [each for each in _lines(miwen) if each["event"] == "status_written"][-1]
        assert (written["seen_by"], written["trace_id"]) == (trace_id, root.trace_id)
        of_krapao = {each["event"]: each.get("trace_id") for each in _lines(krapao)}
        assert of_krapao["listed"] == trace_id
        assert of_krapao["verified"] in (trace_id, root.trace_id)

        _commit(lab, repository, "unsigned", None)
        trace_id = push()
        lab.until_reason(namespace, "app", "SignatureMissing")
        hook, tick = _hook_and_tick(it, trace_id)
        [root] = [each for each in tick if not each.parent]
        assert root.reason == "SignatureMissing"
        assert {each.name for each in tick if each.reason} >= {"tick", "verify", "krapao.verify"}
        assert "miwen:tick miwen:decrypt" not in paths(tick)
        assert {each["event"]: each.get("trace_id") for each in _lines(krapao)}["not_verified"] == root.trace_id
        written = [each for each in _lines(miwen) if each["event"] == "status_written"][-1]
        assert (written["reason"], written["seen_by"]) == ("SignatureMissing", trace_id)
        lab.end_services()
        told = {f"request {number}": body for number, body in enumerate(it.bodies)}
        told |= {each.name: each.log.read_bytes() for each in (krapao, miwen)}
        assert found_in(told, forms_of(SECRET, str(lab.identity))) == []
