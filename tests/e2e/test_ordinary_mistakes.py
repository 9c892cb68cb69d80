"""What is said of ordinary mistakes: the same in the condition, Event, log, `kubectl describe` and `jiemi status`.

All Decryptors are made together, each with one mistake (`mistakes.catalogue`, which docs/troubleshooting.md is made of
too): one cluster, one Krapao, and one Miwen with the rights that deploy/ gives.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from mistakes.catalogue import MISTAKES
from mistakes.mistake import Mistake
from mistakes.stage import NAMESPACE, Stage, staged
from support.e2e.lab import Lab, until
from support.kubernetes.api_server import ApiServer
from support.kubernetes.kubectl import Kubectl

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 90.0
"""For all of them together, on a busy machine; `just bench-mistakes` measures each by itself."""

TOLD_SECONDS = 2.0
"""From before a Decryptor is sent until its status says what is wrong with it."""

_NOT_YET = ("DependencyNotReady", "KrapaoUnavailable", "ClusterUnavailable")
"""What may be said for a moment at the beginning, whatever else is wrong."""


@attrs.define
class Told:
    """What was said, by the Decryptors' names."""

    stage: Stage
    _shown: str | None = None

    def condition(self, mistake: Mistake) -> dict[str, Any]:
        """The condition Ready, once it is False for the reason that is expected."""

        def found() -> dict[str, Any] | None:
            conditions = self.stage.lab.status(NAMESPACE, mistake.name).get("conditions", ())
            ready = next((each for each in conditions if each["type"] == "Ready"), None)
            is_final = ready is not None and (ready["reason"] == mistake.reason or ready["reason"] not in _NOT_YET)
            return ready if is_final and ready is not None and ready["status"] == "False" else None

        ready: dict[str, Any] = until(
            f"{mistake.name} is told",
            found,
            seconds=DEADLINE_SECONDS,
            on_failure=lambda: self.stage.miwen.log_text()[-3000:],
        )
        return ready

    def notes(self, mistake: Mistake) -> set[str]:
        """The notes of the Decryptor's Events of that reason."""
        path = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
        return {
            event["note"]
            for event in self.stage.lab.admin.call("GET", path).ok()["items"]
            if (event["regarding"]["name"], event["reason"]) == (mistake.name, mistake.reason)
        }

    def logged(self, mistake: Mistake) -> set[str]:
        """The messages of Miwen's log about the Decryptor with that reason."""
        lines = [json.loads(line) for line in self.stage.miwen.log_text().splitlines() if line.startswith("{")]
        return {
            line["message"]
            for line in lines
            if line["event"] == "not_in_sync" and (line["name"], line["reason"]) == (mistake.name, mistake.reason)
        }

    def shown(self) -> str:
        """What `jiemi status` prints, once all are told."""
        if self._shown is None:
            for mistake in MISTAKES:
                self.condition(mistake)
            arguments = ("status", "--kubeconfig", str(self.stage.lab.kubeconfig), "--namespace", NAMESPACE)
            done = subprocess.run(
                [sys.executable, "-m", "jiemi", *arguments], capture_output=True, text=True, check=False, timeout=60
            )
            self._shown = done.stdout
        return self._shown


@pytest.fixture(scope="module")
def told(lab: Lab, installed: ApiServer) -> Iterator[Told]:
    with staged(lab, installed) as stage:
        for mistake in MISTAKES:
            stage.make(mistake)
        yield Told(stage)
    assert "canary" not in lab.logs()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_condition_names_what_is_wrong_and_what_to_do(told: Told, mistake: Mistake) -> None:
    ready = told.condition(mistake)
    assert (ready["reason"], ready["message"]) == (mistake.reason, told.stage.expected(mistake))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_event_the_log_and_jiemi_status_say_the_same(told: Told, mistake: Mistake) -> None:
    message = told.condition(mistake)["message"]
    assert f"{NAMESPACE}/{mistake.name}: {message}" in told.shown()
    until(f"the log tells of {mistake.name}", lambda: message in told.logged(mistake))
    until(f"an Event tells of {mistake.name}", lambda: message in told.notes(mistake))


def is_noted(told: Told, mistake: Mistake, message: str) -> bool:
    return message in told.notes(mistake)


def is_gone(told: Told, mistake: Mistake) -> bool:
    return not told.stage.lab.status(NAMESPACE, mistake.name)


def test_kubectl_describe_says_the_same(told: Told, kubectl_program: Path, tmp_path: Path) -> None:
    kubectl = Kubectl(kubectl_program, tmp_path, told.stage.lab.kubeconfig, NAMESPACE)
    for mistake in MISTAKES:
        message = told.condition(mistake)["message"]
        until(f"an Event tells of {mistake.name}", partial(is_noted, told, mistake, message))
    described = {
        each.split(maxsplit=1)[0]: each.partition("\nEvents:")
        for each in re.split(r"^Name: +", kubectl("describe", "decryptors", "--show-events=true"), flags=re.MULTILINE)[
            1:
        ]
    }
    for mistake in MISTAKES:
        status, _, events = described[mistake.name]
        message = told.condition(mistake)["message"]
        assert message in status
        assert mistake.reason in status
        assert message in events


def test_a_mistake_is_reported_within_two_seconds(told: Told) -> None:
    """Of one after the other the median: on a busy machine some take longer, whatever Miwen does."""
    alone = [
        each for each in MISTAKES if not told.stage.benches[each.name].others + told.stage.benches[each.name].first
    ]
    took = []
    for mistake in alone[::5]:
        told.condition(mistake)
        told.stage.lab.delete_decryptor(NAMESPACE, mistake.name)
        until(f"{mistake.name} is gone", partial(is_gone, told, mistake))
        began = time.monotonic()
        told.stage.make(mistake)
        ready = told.condition(mistake)
        took.append(time.monotonic() - began)
        assert ready["message"] == told.stage.expected(mistake)
    assert statistics.median(took) <= TOLD_SECONDS, took


def test_no_value_is_in_anything_that_is_said(told: Told) -> None:
    path = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
    statuses = json.dumps([told.stage.lab.status(NAMESPACE, mistake.name) for mistake in MISTAKES])
    events = json.dumps(told.stage.lab.admin.call("GET", path).ok())
    for value in ("canary", told.stage.words["stranger key"], str(told.stage.lab.identity)):
        assert value not in statuses + events + told.shown() + told.stage.miwen.log_text()
