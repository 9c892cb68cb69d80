"""Miwen reads the session secret from its Secret, makes it where it is missing, and changes none that is there."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
import structlog
import trio
from fakes.kubernetes import FakeKubernetes

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.session_secret import SessionSecretStore

NAMESPACE, NAME = "jiemi", "krapao-session"
CANARY = "canary-session-secret-0123456789"


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    made = FakeKubernetes()
    made.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return made


def put(kubernetes: FakeKubernetes, data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"namespace": NAMESPACE, "name": NAME}
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})


async def test_it_is_made_once_and_then_read(kubernetes: FakeKubernetes) -> None:
    with structlog.testing.capture_logs() as logs:
        store = SessionSecretStore(kubernetes, NAMESPACE, NAME)
        made = await store.read()
        assert re.fullmatch("[0-9a-f]{64}", made.reveal())
        assert (await store.read()).reveal() == made.reveal()
        assert (await SessionSecretStore(kubernetes, NAMESPACE, NAME).read()).reveal() == made.reveal()
    assert [line["event"] for line in logs] == ["session_secret_made", *["session_secret_read"] * 2]
    assert made.reveal() not in repr(logs)


async def test_one_that_is_there_is_shown_by_its_first_line_and_not_changed(kubernetes: FakeKubernetes) -> None:
    put(kubernetes, {"token": f"{CANARY}\nolder-secret-0123456789\n", "other": "x"})
    assert (await SessionSecretStore(kubernetes, NAMESPACE, NAME).read()).reveal() == CANARY
    assert kubernetes.requests.snapshot().of("create", "secrets") == 0


@pytest.mark.parametrize(
    "data", [{}, {"token": ""}, {"token": "canary"}, {"token": "canary-" * 1_000}, {"tok": CANARY}]
)
async def test_one_that_holds_none_is_named_with_what_to_do_and_not_replaced(
    kubernetes: FakeKubernetes, data: dict[str, str]
) -> None:
    put(kubernetes, data)
    with pytest.raises(JiemiError, match="KrapaoAccessDenied: key token of Secret jiemi/krapao-session") as caught:
        await SessionSecretStore(kubernetes, NAMESPACE, NAME).read()
    assert "delete the Secret" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert kubernetes.requests.snapshot().of("create", "secrets") == 0


async def test_where_another_makes_it_at_the_same_moment_that_one_is_shown(kubernetes: FakeKubernetes) -> None:
    class Racing(FakeKubernetes):
        async def create_secret(self, namespace: str, name: str, data: object, **more: Any) -> bool:
            put(self, {"token": CANARY})
            return await super().create_secret(namespace, name, {"token": SensitiveText("mine")})

    racing = Racing()
    racing.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    assert (await SessionSecretStore(racing, NAMESPACE, NAME).read()).reveal() == CANARY


async def test_it_is_provided_at_the_start_however_long_the_api_server_refuses(
    kubernetes: FakeKubernetes, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(5):
        kubernetes.fail_next("get_secret", JiemiError("ClusterUnavailable", "away"))
    with structlog.testing.capture_logs() as logs:
        with trio.move_on_after(3 * 60):
            await SessionSecretStore(kubernetes, NAMESPACE, NAME).provide()
    made = [line["event"] for line in logs if line["log_level"] != "debug"]
    assert made == ["session_secret_missing"] * 5 + ["session_secret_made"]


async def test_it_is_made_again_within_a_minute_where_somebody_deleted_it_and_nobody_asks_for_it(
    kubernetes: FakeKubernetes, autojump_clock: trio.testing.MockClock
) -> None:
    def is_there() -> bool:
        return ("v1", "Secret", NAMESPACE, NAME) in kubernetes.cluster.objects

    async with trio.open_nursery() as nursery:
        nursery.start_soon(SessionSecretStore(kubernetes, NAMESPACE, NAME).provide)
        await trio.sleep(600)
        for _ in range(3):
            assert is_there()
            kubernetes.cluster.delete("Secret", NAMESPACE, NAME)
            await trio.sleep(61)
        assert is_there()
        nursery.cancel_scope.cancel()
