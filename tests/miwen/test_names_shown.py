"""What an encrypted file holds in the place of a name is shown nowhere, unless it is a name."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fakes.kubernetes_cluster import Refused
from support.miwen.world import FILE, World, miwen, secret
from trio.testing import MockClock

from jiemi.miwen.kubernetes.refusal import Cause, Refusal

CANARY = "Hunter2-canary_7f3a"


def _named(**metadata: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app", **metadata}, "stringData": {"a": "b"}}


WRONG: dict[str, dict[str, Any]] = {
    "name": _named(name=CANARY),
    "namespace": _named(namespace=CANARY),
    "kind": {**_named(), "kind": CANARY},
    "apiVersion": {**_named(), "apiVersion": f"{CANARY}/v1"},
    "an item of a list": {"apiVersion": "v1", "kind": "List", "items": [_named(), _named(name=CANARY)]},
    "a role's name": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": f"{CANARY} with spaces"},
        "rules": [],
    },
}


def _told(world: World, logged: str) -> str:
    """All that anyone is told: status, Events, log."""
    events = [obj for key, obj in world.cluster.objects.items() if key[1] == "Event"]
    return f"{world.status()}{events}{logged}"


@pytest.mark.parametrize("what", WRONG)
async def test_what_can_be_no_name_is_in_no_status_event_or_log(
    world: World, autojump_clock: MockClock, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.origin.commit({FILE: [secret(greeting="one"), WRONG[what]]})
    world.add()
    async with miwen(world):
        await trio.sleep(400)
        logged = capsys.readouterr()
        told = _told(world, logged.out + logged.err)
        assert CANARY not in told
        assert f"document 2 of {FILE}" in told
        assert world.reason() == "NotAKubernetesObject"


@pytest.mark.parametrize("code", [409, 422, 500])
async def test_what_an_api_server_makes_of_a_value_is_reported_nowhere(
    world: World,
    autojump_clock: MockClock,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = f'conflict with "{CANARY}" using v1: .data[{CANARY}]'
    causes = tuple(
        Cause(reason, field, message)
        for reason in ("FieldManagerConflict", "FieldValueInvalid")
        for field in (f"data[{CANARY}]", f"metadata.labels.{CANARY}", f"spec.{CANARY}.x", CANARY)
    )

    def refuse(*_: Any, **__: Any) -> Any:
        raise Refused(Refusal(code, "Invalid", "secrets", CANARY, causes, f"{CANARY}: {message}"))

    world.origin.commit({FILE: [secret(greeting=CANARY)]})
    world.add()
    monkeypatch.setattr(world.cluster, "apply", refuse)
    async with miwen(world):
        await trio.sleep(400)
        logged = capsys.readouterr()
        told = _told(world, logged.out + logged.err)
        assert CANARY not in told
        assert "Secret default/app" in told
