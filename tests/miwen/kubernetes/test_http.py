"""Requests against a server that answers what a test wrote: pauses, faults, lies, and connections that break."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from contract.kubernetes_parts import secret
from fakes.kubernetes_server import CANARY, CUT, ScriptedServer, refusal, settings_for

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.fence import Moment
from jiemi.miwen.kubernetes.real import RealKubernetes, open_kubernetes

LIST = {"kind": "DecryptorList", "metadata": {"resourceVersion": "7"}, "items": []}


async def failure_of(kubernetes: RealKubernetes, *, token: str | None = None) -> str:
    """The failure of a list, which must not show the token."""
    with pytest.raises(JiemiError) as caught:
        await kubernetes.list_decryptors(limit=5, continue_token=token)
    assert CANARY not in str(caught.value)
    return str(caught.value)


async def test_a_list_is_asked_for_by_path_and_query(server: ScriptedServer, kubernetes: RealKubernetes) -> None:
    server.say(200, LIST | {"metadata": {"resourceVersion": "7", "continue": "next page"}})
    page = await kubernetes.list_decryptors(limit=5, continue_token="a&b")
    assert (page.items, page.resource_version, page.continue_token) == ((), "7", "next page")
    assert server.seen == ["GET /apis/jiemi.cr/v1alpha1/decryptors?limit=5&continue=a%26b"]


@pytest.mark.parametrize("status", [429, 503, 504])
async def test_a_short_pause_that_the_server_asks_for_is_made(
    server: ScriptedServer, kubernetes: RealKubernetes, status: int
) -> None:
    server.say(status, refusal(), Retry_After="1")
    server.say(200, LIST)
    began = trio.current_time()
    assert (await kubernetes.list_decryptors(limit=5, continue_token=None)).items == ()
    assert trio.current_time() - began >= 1
    assert kubernetes.requests.snapshot().of("list", "decryptors") == 2


async def test_a_pause_is_asked_for_once(server: ScriptedServer, kubernetes: RealKubernetes) -> None:
    for _ in range(2):
        server.say(429, refusal("TooManyRequests"), Retry_After="0")
    assert "429 TooManyRequests" in await failure_of(kubernetes)
    assert len(server.seen) == 2


@pytest.mark.parametrize("header", [{"Retry_After": "3600"}, {"Retry_After": "Fri, 01 Jan 2100 00:00:00 GMT"}, {}])
async def test_a_long_pause_is_the_caller_s_to_make(
    server: ScriptedServer, kubernetes: RealKubernetes, header: dict[str, str]
) -> None:
    server.say(503, refusal(), **header)
    assert "ClusterUnavailable" in await failure_of(kubernetes)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "body", "token", "reason"),
    [
        (410, refusal("Expired"), None, "WatchExpired"),
        (410, refusal("Expired"), "t", "WatchExpired"),
        (400, refusal("BadRequest"), "t", "WatchExpired"),
        (400, refusal("BadRequest"), None, "ClusterUnavailable"),
        (504, refusal("Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]), "t", "WatchExpired"),
        (403, refusal("Forbidden"), None, "ListForbidden"),
        (404, b"404 page not found", None, "ListForbidden"),
        (500, refusal("InternalError"), None, "ClusterUnavailable"),
        (502, b"<html>", None, "ClusterUnavailable"),
        (302, b"", None, "ClusterUnavailable"),
        (200, b"<html>", None, "ClusterUnavailable"),
        (200, b"[]", None, "ClusterUnavailable"),
        (200, b"", None, "ClusterUnavailable"),
        (200, {"items": []}, None, "ClusterUnavailable"),
        (200, {"metadata": {"resourceVersion": "7"}, "items": 7}, None, "ClusterUnavailable"),
    ],
)
async def test_each_answer_to_a_list_has_its_reason(
    server: ScriptedServer, kubernetes: RealKubernetes, status: int, body: object, token: str | None, reason: str
) -> None:
    server.say(status, body)
    assert (await failure_of(kubernetes, token=token)).startswith(reason)


async def test_a_redirect_does_not_take_the_token_elsewhere(server: ScriptedServer, kubernetes: RealKubernetes) -> None:
    server.say(307, b"", Location=f"http://127.0.0.1:{server.port}/elsewhere")
    assert "307" in await failure_of(kubernetes)
    assert len(server.seen) == 1


async def test_a_connection_that_breaks_is_tried_once_more(server: ScriptedServer, kubernetes: RealKubernetes) -> None:
    server.answers = [None]
    server.say(200, LIST)
    assert (await kubernetes.list_decryptors(limit=5, continue_token=None)).items == ()
    server.answers = [None, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + CUT, None]
    assert "ended the connection" in await failure_of(kubernetes)
    assert len(server.seen) == 4


async def test_an_answer_that_drips_ends_at_the_deadline(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"]
    async with open_kubernetes(settings_for(server, tmp_path, request_timeout_seconds=0.2)) as kubernetes:
        assert "did not answer within 0.2 s" in await failure_of(kubernetes)


async def test_what_is_no_http_is_said(server: ScriptedServer, kubernetes: RealKubernetes) -> None:
    server.answers = [b"SSH-2.0-OpenSSH_9.0\r\n\r\n"] * 2
    assert "ClusterUnavailable" in await failure_of(kubernetes)


async def test_an_apply_whose_connection_breaks_is_sent_again_whole(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    server.say(200, {"resources": [{"name": "secrets", "kind": "Secret", "namespaced": True}]})
    server.answers.append(None)
    server.say(201, {"metadata": {"name": "made", "resourceVersion": "8"}})
    manifest = secret("made", stringData={"a": "b"})
    applied = await kubernetes.objects(None).apply(manifest, default_namespace="team")
    assert applied == {"name": "made", "resourceVersion": "8"}
    path = "/api/v1/namespaces/team/secrets/made?fieldManager=jiemi&force=true"
    assert server.seen == ["GET /api/v1", f"PATCH {path}", f"PATCH {path}"]
    assert server.bodies[1] == server.bodies[2]
    assert json.loads(server.bodies[1])["metadata"] == {"name": "made", "namespace": "team"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (409, refusal("Conflict"), "ApplyConflict"),
        (409, refusal("Conflict", policy=True), "AdmissionDenied"),
        (401, refusal("Unauthorized", policy=True), "AdmissionDenied"),
        (422, refusal("Invalid", name="one", causes=[{"field": "status.current.id"}]), "ApplyRejected"),
        (403, refusal("Forbidden"), "ListForbidden"),
        (500, refusal("InternalError"), "ClusterUnavailable"),
    ],
)
async def test_each_refusal_of_a_status_has_its_reason(
    server: ScriptedServer, kubernetes: RealKubernetes, status: int, body: object, reason: str
) -> None:
    server.say(status, body)
    with pytest.raises(JiemiError) as caught:
        await kubernetes.patch_status("team", "one", {}, uid="u")
    assert caught.value.failure.reason == reason
    assert CANARY not in str(caught.value)


async def test_a_proxy_is_used_where_the_environment_names_one(server: ScriptedServer, tmp_path: Path) -> None:
    through = {"HTTP_PROXY": f"http://127.0.0.1:{server.port}"}
    settings = settings_for(server, tmp_path, environment=through)
    assert settings.kubeconfig is not None
    text = settings.kubeconfig.read_text()
    settings.kubeconfig.write_text(text.replace(f"127.0.0.1:{server.port}", "cluster.invalid"))
    server.say(200, LIST)
    async with open_kubernetes(settings) as kubernetes:
        await kubernetes.list_decryptors(limit=5, continue_token=None)
    assert server.seen == ["GET http://cluster.invalid/apis/jiemi.cr/v1alpha1/decryptors?limit=5"]
    direct = settings_for(server, tmp_path, environment={"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"})
    server.say(200, LIST)
    async with open_kubernetes(direct) as kubernetes:
        await kubernetes.list_decryptors(limit=5, continue_token=None)
    assert server.seen[1:] == ["GET /apis/jiemi.cr/v1alpha1/decryptors?limit=5"]


async def test_a_write_is_sent_only_within_the_fence_and_the_server_is_asked_to_give_it_up_too(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    now = [Moment(0.0, 0.0)]
    kubernetes.fence.now = lambda: now[-1]
    kubernetes.fence.bound(now[0], 4)
    server.say(201, {"kind": "Secret", "metadata": {"name": "s"}})
    await kubernetes.create_secret("a", "s", {})
    assert server.seen[-1].endswith("&timeout=4.000s")
    now.append(Moment(3.5, 3.5))
    server.say(201, {"kind": "Secret", "metadata": {"name": "s"}})
    await kubernetes.create_secret("a", "s", {})
    assert server.seen[-1].endswith("&timeout=0.500s")
    now.append(Moment(4.0, 4.0))
    sent = len(server.seen)
    with pytest.raises(JiemiError, match="does not hold the Lease any longer"):
        await kubernetes.create_secret("a", "s", {})
    assert len(server.seen) == sent, "nothing was sent"
    # Reading harms nobody, and the Lease itself must be written.
    server.say(200, LIST)
    await kubernetes.list_decryptors(limit=5, continue_token=None)
    server.say(200, {"kind": "Lease", "metadata": {"name": "l"}, "spec": {}})
    assert await kubernetes.leases.write("a", "l", {"metadata": {}}, {}) is not None
    assert "timeout=" not in server.seen[-1]


async def test_a_write_that_is_not_answered_within_the_fence_is_not_waited_for(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    began = trio.current_time()
    kubernetes.fence.bound(kubernetes.fence.now(), 0.5)
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"]
    with pytest.raises(JiemiError, match="did not answer within"):
        await kubernetes.create_secret("a", "s", {})
    assert trio.current_time() - began < 5
