"""From a push to the applied object: one trace across both processes, and log lines of both that have its id.

Both run as in a cluster, with logs at debug. Whatever they log or send to the collector holds no secret, and one that
takes nothing keeps nothing from being applied.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from pyrage import x25519
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, Service, git_server, until
from support.e2e.scene import METRICS, metrics_page
from support.traces.collector import Collector, Seen, collector, hang, is_whole, paths

from jiemi.core.sensitive import SensitiveText

pytestmark = pytest.mark.e2e

PLAIN = "canary-plaintext-traces-40cf"
TOKEN = "canary-git-token-traces-9e02"
LOGS = ("--log-format", "json", "--log-level", "debug")


@attrs.frozen
class Traced:
    """Both services with a collector, in a namespace."""

    namespace: str
    collector: Collector
    krapao: Service
    miwen: Service

    def lines(self, service: Service, trace_id: str) -> list[Any]:
        """The log lines of a service that have the id of a trace."""
        return [line for line in log_lines(service) if line.get("trace_id") == trace_id]


def log_lines(service: Service) -> list[Any]:
    return [json.loads(line) for line in service.log_text().splitlines()]


@pytest.fixture(scope="module")
def other() -> Iterator[Collector]:
    """One that only the environment names."""
    with collector() as it:
        yield it


@pytest.fixture(scope="module")
def traced(lab: Lab, other: Collector) -> Iterator[Traced]:
    namespace = lab.namespace("e2e-traces")
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": other.url,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": other.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={TOKEN}",
        "OTEL_RESOURCE_ATTRIBUTES": f"token={TOKEN}",
        "OTEL_SDK_DISABLED": "true",
    }
    with collector() as it:
        flags = (*LOGS, "--traces-endpoint", it.url)
        krapao, address = lab.start_krapao(*flags, name="traced", environment=environment)
        arguments = ("--krapao", address, "--kubeconfig", lab.kubeconfig, "--namespace", namespace, "--interval", "1s")
        miwen = lab.start("miwen", *arguments, *flags, environment=environment)
        yield Traced(namespace, it, krapao, miwen)
        lab.end_services()


def trace_of(traced: Traced, name: str, **attributes: object) -> list[Seen]:
    """The spans of the trace of the tick of that Decryptor that has an attribute, once all of them have come."""

    def found() -> list[Seen] | None:
        for spans in traced.collector.traces().values():
            for tick in spans:
                wanted = {"jiemi.decryptor": name, **attributes}
                if tick.name == "tick" and wanted.items() <= tick.attributes.items() and is_whole(spans):
                    return spans
        return None

    spans: list[Seen] = until(f"the trace of {name}", found)
    return spans


def _secret(name: str, **values: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})


def test_a_push_is_one_trace_from_the_host_to_the_object_and_both_logs_have_its_id(lab: Lab, traced: Traced) -> None:
    repository = lab.repository({"secret.enc.yaml": lab.encrypt(_secret("pushed", value="one"))})
    lab.admin.apply(lab.decryptor(traced.namespace, "push", repository.url)).ok()
    first = repository.run("rev-parse", "HEAD")
    lab.until_synced(traced.namespace, "push", first)
    second = repository.commit({"secret.enc.yaml": lab.encrypt(_secret("pushed", value=PLAIN))})
    lab.until_synced(traced.namespace, "push", second)

    spans = trace_of(traced, "push", **{"jiemi.revision": second})
    call = "miwen:tick miwen:decrypt miwen:render miwen:krapao.render krapao:krapao.render"
    assert {
        "miwen:tick",
        "miwen:tick miwen:head miwen:krapao.head krapao:krapao.head krapao:listing",
        "miwen:tick miwen:files miwen:krapao.files krapao:krapao.files krapao:fetch",
        f"{call} krapao:read",
        f"{call} krapao:decrypt krapao:sops",
        f"{call} krapao:decrypt krapao:key_request",
        "miwen:tick miwen:apply miwen:apply.object",
        "miwen:tick miwen:status",
    } <= paths(spans)
    [tick] = [each for each in spans if not each.parent]
    assert not [each for each in spans if each.reason]
    assert tick.attributes["k8s.namespace.name"] == traced.namespace
    assert all(tick.began_ns <= each.began_ns and each.ended_ns <= tick.ended_ns for each in spans)

    miwen, krapao = (traced.lines(each, tick.trace_id) for each in (traced.miwen, traced.krapao))
    by_event = {line["event"]: line for line in miwen}
    assert {"tick_began", "head", "files_compared", "object_applied", "in_sync", "status_written", "tick_ended"} <= set(
        by_event
    )
    assert by_event["tick_began"]["woken_by"] == by_event["status_written"]["woken_by"] == "interval"
    assert {(line["namespace"], line["name"]) for line in miwen} == {(traced.namespace, "push")}
    assert {"listed", "moved", "fetch", "files", "decrypted", "render"} <= {line["event"] for line in krapao}
    # Krapao knows no name of the cluster's, in its log no more than elsewhere.
    assert traced.namespace not in traced.krapao.log_text()
    status = lab.status(traced.namespace, "push")
    assert tick.trace_id not in json.dumps(status)


def test_the_spans_of_a_tick_that_failed_have_the_reason(lab: Lab, traced: Traced) -> None:
    broken = lab.encrypt(_secret("broken", value=PLAIN)).replace(b"data:", b"data:A", 1)
    repository = lab.repository({"secret.enc.yaml": broken})
    lab.admin.apply(lab.decryptor(traced.namespace, "broken", repository.url)).ok()
    lab.until_reason(traced.namespace, "broken", "MacMismatch")
    spans = trace_of(traced, "broken", **{"jiemi.reason": "MacMismatch"})
    failed = {(each.service, each.name): each.reason for each in spans if each.reason}
    assert failed == {
        ("jiemi-miwen", "tick"): "MacMismatch",
        ("jiemi-miwen", "krapao.render"): "MacMismatch",
        ("jiemi-miwen", "render"): "MacMismatch",
        ("jiemi-krapao", "krapao.render"): "MacMismatch",
        ("jiemi-krapao", "decrypt"): "MacMismatch",
    }
    [tick] = [each for each in spans if not each.parent]
    [line] = [each for each in traced.lines(traced.miwen, tick.trace_id) if each["event"] == "not_in_sync"]
    assert line["reason"] == "MacMismatch"
    [line] = [each for each in traced.lines(traced.krapao, tick.trace_id) if each["event"] == "render_failed"]
    assert line["reason"] == "MacMismatch"


def test_neither_traces_nor_logs_at_debug_hold_a_secret(lab: Lab, traced: Traced, other: Collector) -> None:
    stranger = x25519.Identity.generate()
    lab.secret(traced.namespace, "keys", age=str(lab.identity), stranger=str(stranger), token=TOKEN)
    with git_server(lab.folder / "token-traces", username="me", token=SensitiveText(TOKEN)) as private:
        url = private.create("private.git")
        credentials = {"username": {"literal": "me"}, "token": {"secretName": "keys", "key": "token"}}
        lab.admin.apply(lab.decryptor(traced.namespace, "token", url, repository={"credentials": credentials})).ok()
        refused = {"username": {"literal": PLAIN}, "token": {"literal": TOKEN}}
        lab.admin.apply(lab.decryptor(traced.namespace, "refused", url, repository={"credentials": refused})).ok()
        repository = lab.repository({"secret.enc.yaml": lab.encrypt(_secret("held", value=PLAIN))})
        for name, key in (("held", "age"), ("stranger", "stranger")):
            provider = {"age": {"privateKey": {"secretName": "keys", "key": key}}}
            lab.admin.apply(lab.decryptor(traced.namespace, name, repository.url, provider=provider)).ok()
        lab.until_reason(traced.namespace, "held", "Synced")
        lab.until_reason(traced.namespace, "stranger", "KeyMissing")
        lab.until_reason(traced.namespace, "token", "RefNotFound")
        lab.until_reason(traced.namespace, "refused", "RepositoryAccessDenied")
        for name in ("held", "stranger", "token", "refused"):
            trace_of(traced, name)
    told = {f"request {number}": body for number, body in enumerate(traced.collector.bodies)}
    told |= {service.name: service.log.read_bytes() for service in (traced.krapao, traced.miwen)}
    assert all(b'"level": "debug"' in told[name] for name in ("krapao", "miwen"))
    assert len(told) > 4
    canaries = forms_of(PLAIN, TOKEN, str(lab.identity), str(stranger))
    assert found_in(told, canaries) == []
    assert found_in({"headers": json.dumps(traced.collector.requests).encode()}, canaries) == []
    assert other.requests == [], "what the environment names is asked nothing"


def test_a_collector_that_hangs_keeps_nothing_from_being_applied_and_no_process_from_ending(lab: Lab) -> None:
    namespace = lab.namespace("e2e-traces-hang")
    with collector() as it:
        it.answer = hang(it)
        flags = (*LOGS, *METRICS, "--traces-endpoint", it.url)
        krapao, address = lab.start_krapao(*flags, name="hang")
        miwen = lab.start_miwen(address, namespace, *flags, interval="1s")
        repository = lab.repository({"secret.enc.yaml": lab.encrypt(_secret("unhindered", value="one"))})
        lab.admin.apply(lab.decryptor(namespace, "hang", repository.url)).ok()
        lab.until_synced(namespace, "hang", repository.run("rev-parse", "HEAD"))
        until("both have asked", lambda: len(it.requests) >= 2)
        revision = repository.commit({"secret.enc.yaml": lab.encrypt(_secret("unhindered", value="two"))})
        began = time.monotonic()
        lab.until_synced(namespace, "hang", revision)
        assert time.monotonic() - began < 10, "less than one request to the collector may take"
        assert lab.data(namespace, "unhindered") == {"value": "two"}
        assert re.search(r'jiemi_trace_spans_total\{outcome="sent"\} 0\.0', metrics_page(miwen))
        for service in (miwen, krapao):
            began = time.monotonic()
            assert service.end() == 0
            assert time.monotonic() - began < 8


def test_levels_change_while_both_run(lab: Lab, tmp_path: Path) -> None:
    namespace, levels = lab.namespace("e2e-levels"), tmp_path / "levels"
    flags = ("--log-format", "json", "--log-level-file", levels)
    krapao, address = lab.start_krapao(*flags, name="levels")
    miwen = lab.start_miwen(address, namespace, *flags, interval="1s")
    repository = lab.repository({"secret.enc.yaml": lab.encrypt(_secret("levels", value="one"))})
    lab.admin.apply(lab.decryptor(namespace, "levels", repository.url)).ok()
    lab.until_synced(namespace, "levels", repository.run("rev-parse", "HEAD"))
    assert not [line for each in (krapao, miwen) for line in log_lines(each) if line["level"] == "debug"]
    levels.write_text("info,jiemi.krapao=debug,jiemi.miwen.controller=debug")

    def areas() -> set[str]:
        return {line["logger"] for each in (krapao, miwen) for line in log_lines(each) if line["level"] == "debug"}

    until("both have read it", lambda: {"jiemi.krapao", "jiemi.miwen.controller"} <= areas())
    assert not {"jiemi.miwen.kubernetes", "jiemi.rpc"} & areas()
    levels.write_text("loud")
    until(
        "both say that it is wrong",
        lambda: all("log_levels_not_changed" in each.log_text() for each in (krapao, miwen)),
    )
    for service in (miwen, krapao):
        assert service.end() == 0
