"""Objects on an API server that answers what a test wrote: what is sent, and what comes of repeated tries."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from contract.kubernetes_metadata_contract import SECRETS
from contract.kubernetes_parts import denied, secret
from fakes.kubernetes_server import CANARY, ScriptedServer, refusal

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.discovery import JUST_NOW_SECONDS
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.kubernetes.real import RealKubernetes
from jiemi.miwen.kubernetes.real_objects import MAX_BODY_BYTES, RealObjects, pointer

REF = ObjectRef("v1", "Secret", "team", "made")
PATH = "/api/v1/namespaces/team/secrets/made"
KINDS = {"resources": [{"name": "secrets", "kind": "Secret", "namespaced": True}]}
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
NOT_FOUND = refusal("NotFound", name="made", kind="secrets")
TEST_FAILED = {"kind": "Status", "message": CANARY, "reason": "Invalid", "details": {}, "code": 422}


def metadata(**fields: Any) -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "metadata": {"uid": "u", "resourceVersion": "7", **fields}}


@pytest.fixture
def objects(server: ScriptedServer, kubernetes: RealKubernetes) -> RealObjects:
    server.say(200, KINDS)
    return kubernetes.objects(None)


# --- what is sent


async def test_an_apply_is_sent_with_its_manager_and_force(server: ScriptedServer, objects: RealObjects) -> None:
    for _ in range(2):
        server.say(200, metadata())
    await objects.apply(secret("made"), default_namespace="team")
    await objects.apply(secret("made"), default_namespace="team", take_over=False)
    assert server.seen[1:] == [f"PATCH {PATH}?fieldManager=jiemi&force={force}" for force in ("true", "false")]
    assert server.headers[1]["content-type"] == "application/apply-patch+yaml"
    assert server.headers[1]["accept"] == METADATA
    assert "impersonate-user" not in server.headers[1]


async def test_an_object_larger_than_an_api_server_reads_is_not_sent(
    server: ScriptedServer, objects: RealObjects
) -> None:
    def with_body_of(size: int) -> dict[str, Any]:
        manifest = secret("made", "team", greeting="")
        return secret("made", "team", greeting="x" * (size - len(json.dumps(manifest, separators=(",", ":")))))

    server.say(200, metadata())
    await objects.apply(with_body_of(MAX_BODY_BYTES), default_namespace="team")
    assert len(server.seen) == 2
    for size in (MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES):
        for write in (objects.apply, objects.dry_run):
            with pytest.raises(JiemiError, match="larger than the API server takes") as caught:
                await write(with_body_of(size), default_namespace="team")
            assert caught.value.failure.reason == "ApplyRejected"
    assert len(server.seen) == 2


async def test_a_dry_run_asks_for_the_whole_object(server: ScriptedServer, objects: RealObjects) -> None:
    server.say(200, {"kind": "Secret", "metadata": {}, "data": {"a": "YQ=="}})
    assert (await objects.dry_run(secret("made"), default_namespace="team"))["data"] == {"a": "YQ=="}
    assert server.seen[1:] == [f"PATCH {PATH}?fieldManager=jiemi&force=true&dryRun=All"]
    assert server.headers[1]["accept"] == "application/json"


async def test_a_deletion_is_sent_with_its_preconditions(server: ScriptedServer, objects: RealObjects) -> None:
    for _ in range(2):
        server.say(200, {"kind": "Status"})
    assert await objects.delete(REF, uid="u")
    assert await objects.delete(REF, uid="u", resource_version="7")
    assert server.seen[1:] == [f"DELETE {PATH}"] * 2
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    sent = [json.loads(body) for body in server.bodies[1:]]
    assert sent[0] == options | {"preconditions": {"uid": "u"}}
    assert sent[1] == options | {"preconditions": {"uid": "u", "resourceVersion": "7"}}


async def test_fields_are_removed_by_their_escaped_path(server: ScriptedServer, objects: RealObjects) -> None:
    server.say(200, metadata(resourceVersion="8"))
    after = await objects.remove_fields(
        REF, [("data", "a"), ("metadata", "annotations", "x.example/~y")], resource_version="7"
    )
    assert after["resourceVersion"] == "8"
    assert server.seen[1:] == [f"PATCH {PATH}?fieldManager=jiemi"]
    assert server.headers[1]["content-type"] == "application/json-patch+json"
    assert json.loads(server.bodies[1]) == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "remove", "path": "/data/a"},
        {"op": "remove", "path": "/metadata/annotations/x.example~1~0y"},
    ]


def test_a_pointer_escapes_what_it_must() -> None:
    assert pointer("a", "~1", "b/c", "") == "/a/~01/b~1c/"


async def test_an_account_is_acted_as_except_for_the_kinds(server: ScriptedServer, kubernetes: RealKubernetes) -> None:
    server.say(200, KINDS)
    for _ in range(4):
        server.say(200, metadata())
    objects = kubernetes.objects(Account("team", "deployer"))
    await objects.get(REF)
    await objects.apply(secret("made"), default_namespace="team")
    await objects.delete(REF, uid="u")
    await objects.remove_fields(REF, [("data", "a")], resource_version="7")
    users = [headers.get("impersonate-user") for headers in server.headers]
    assert users == [None, *["system:serviceaccount:team:deployer"] * 4]
    # Both: Miwen's own token says who impersonates.
    assert all(headers["authorization"] == f"Bearer {CANARY}" for headers in server.headers)


async def test_a_collection_s_metadata_is_asked_for_with_its_selectors(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    server.say(200, {"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "7"}, "items": []})
    server.say(200, b"")
    labels = "jiemi.cr/decryptor-name"
    await kubernetes.list_metadata(
        SECRETS, label_selector=labels, field_selector="type!=a/b", limit=5, continue_token="t"
    )
    async with kubernetes.watch_metadata(SECRETS, label_selector=labels, field_selector="", resource_version="7"):
        pass
    label = "labelSelector=jiemi.cr%2Fdecryptor-name"
    assert server.seen == [
        f"GET /api/v1/secrets?{label}&fieldSelector=type%21%3Da%2Fb&limit=5&continue=t",
        f"GET /api/v1/secrets?{label}&watch=true&resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=300",
    ]
    assert [headers["accept"] for headers in server.headers] == [
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    ]


# --- what is tried twice


@pytest.mark.parametrize("first", ["broken", "429", "503"])
async def test_a_deletion_whose_object_is_gone_at_the_second_try_was_carried_out(
    server: ScriptedServer, objects: RealObjects, first: str
) -> None:
    say_first(server, first)
    server.say(404, NOT_FOUND)
    assert await objects.delete(REF, uid="u", resource_version="7")
    assert server.seen[1:] == [f"DELETE {PATH}"] * 2


@pytest.mark.parametrize("first", ["broken", "429"])
@pytest.mark.parametrize(
    ("live", "deleted"),
    [
        (None, True),
        (metadata(uid="another"), True),
        (metadata(resourceVersion="8", deletionTimestamp="2026-11-24T03:00:00Z"), True),
        (metadata(resourceVersion="8"), None),
    ],
)
async def test_a_deletion_whose_precondition_fails_at_the_second_try_is_explained_by_what_is_there(
    server: ScriptedServer, objects: RealObjects, first: str, live: dict[str, Any] | None, deleted: bool | None
) -> None:
    say_first(server, first)
    server.say(409, refusal("Conflict", name="made"))
    server.say(404, NOT_FOUND) if live is None else server.say(200, live)
    doing = objects.delete(REF, uid="u", resource_version="7")
    if deleted is None:
        await denied(doing, "ApplyConflict")
    else:
        assert await doing is deleted


async def test_a_deletion_at_its_first_try_says_what_was_there(server: ScriptedServer, objects: RealObjects) -> None:
    server.say(404, NOT_FOUND)
    assert not await objects.delete(REF, uid="u")
    server.say(409, refusal("Conflict", name="made"))
    server.say(200, metadata(uid="another"))
    assert not await objects.delete(REF, uid="u")
    # Another deletes it at the same moment.
    server.say(409, refusal("Conflict", name="made"))
    server.say(200, metadata(resourceVersion="8", deletionTimestamp="2026-11-24T03:00:00Z"))
    await denied(objects.delete(REF, uid="u", resource_version="7"), "ApplyConflict")


async def test_a_refused_token_is_no_try_of_a_deletion(server: ScriptedServer, objects: RealObjects) -> None:
    server.say(401, refusal("Unauthorized"))
    with pytest.raises(JiemiError, match="does not accept the credentials"):
        await objects.delete(REF, uid="u")


async def test_a_deletion_waits_as_long_as_it_is_asked_to(server: ScriptedServer, objects: RealObjects) -> None:
    server.say(429, refusal("TooManyRequests"), Retry_After="1")
    server.say(200, {"kind": "Status"})
    began = trio.current_time()
    assert await objects.delete(REF, uid="u")
    assert trio.current_time() - began >= 1


async def test_a_deletion_that_breaks_twice_is_unavailable(server: ScriptedServer, objects: RealObjects) -> None:
    server.answers += [None, None]
    assert "ended the connection" in await denied(objects.delete(REF, uid="u"), "ClusterUnavailable")


async def test_a_removal_whose_first_try_was_carried_out_is_a_conflict(
    server: ScriptedServer, objects: RealObjects
) -> None:
    server.answers.append(None)
    server.say(422, TEST_FAILED)
    server.say(200, metadata(resourceVersion="8"))
    await denied(objects.remove_fields(REF, [("data", "a")], resource_version="7"), "ApplyConflict")


async def test_a_patch_that_does_not_fit_is_explained_by_what_is_there(
    server: ScriptedServer, objects: RealObjects
) -> None:
    for live, reason in (
        (metadata(), "ApplyRejected"),
        (metadata(resourceVersion="8"), "ApplyConflict"),
        (None, "ApplyConflict"),
    ):
        server.say(422, TEST_FAILED)
        server.say(404, NOT_FOUND) if live is None else server.say(200, live)
        await denied(objects.remove_fields(REF, [("data", "a")], resource_version="7"), reason)


def say_first(server: ScriptedServer, first: str) -> None:
    if first == "broken":
        server.answers.append(None)
    else:
        server.say(int(first), refusal(), Retry_After="0")


# --- refusals


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
async def test_a_policy_s_refusal_is_one_whatever_its_code(
    server: ScriptedServer, objects: RealObjects, status: int
) -> None:
    for doing in (
        lambda: objects.apply(secret("made"), default_namespace="team"),
        lambda: objects.dry_run(secret("made"), default_namespace="team"),
        lambda: objects.delete(REF, uid="u"),
        lambda: objects.remove_fields(REF, [("data", "a")], resource_version="7"),
    ):
        server.say(status, refusal(policy=True))
        message = await denied(doing(), "AdmissionDenied")
        assert "ValidatingAdmissionPolicy p (binding b)" in message
        assert CANARY not in message


async def test_a_kind_that_is_no_longer_served_is_asked_for_again(server: ScriptedServer, objects: RealObjects) -> None:
    server.say(404, b"404 page not found\n")
    assert await objects.get(REF) is None
    # What was known is asked for again, at once and once.
    server.say(200, {"resources": []})
    assert await objects.resource("v1", "Secret") is None
    assert await objects.get(REF) is None
    # That it is gone was heard just now; a moment later it is asked before it is said again.
    await trio.sleep(JUST_NOW_SECONDS)
    assert await objects.resource("v1", "Secret") is None
    server.say(200, KINDS)
    server.say(404, NOT_FOUND)
    assert await objects.get(REF) is None
    assert await objects.resource("v1", "Secret") is not None
    assert server.answers == []


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, refusal("Forbidden"), "ReadForbidden"),
        (500, refusal("InternalError"), "ClusterUnavailable"),
        (200, b"<html>", "ClusterUnavailable"),
        (302, b"", "ClusterUnavailable"),
    ],
)
async def test_each_answer_to_a_read_has_its_reason(
    server: ScriptedServer, objects: RealObjects, status: int, body: object, reason: str
) -> None:
    for read in (objects.get, objects.get_metadata):
        server.say(status, body)
        assert CANARY not in await denied(read(REF), reason)


@pytest.mark.parametrize(
    ("status", "body", "token", "reason"),
    [
        (410, refusal("Expired"), "t", "WatchExpired"),
        (400, refusal("BadRequest"), "t", "WatchExpired"),
        (400, refusal("BadRequest"), None, "ClusterUnavailable"),
        (504, refusal("Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]), "t", "WatchExpired"),
        (403, refusal("Forbidden"), None, "WatchForbidden"),
        (404, b"404 page not found", None, "KindUnknown"),
        (406, refusal("NotAcceptable"), None, "ClusterUnavailable"),
        (500, refusal("InternalError"), None, "ClusterUnavailable"),
        (200, {"items": []}, None, "ClusterUnavailable"),
    ],
)
async def test_each_answer_to_a_list_of_metadata_has_its_reason(
    server: ScriptedServer, kubernetes: RealKubernetes, status: int, body: object, token: str | None, reason: str
) -> None:
    server.say(status, body)
    doing = kubernetes.list_metadata(SECRETS, label_selector="", field_selector="", limit=5, continue_token=token)
    assert CANARY not in await denied(doing, reason)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (409, refusal("Conflict"), "ApplyConflict"),
        (403, refusal("Forbidden"), "ListForbidden"),
        (403, refusal("Forbidden", policy=True), "AdmissionDenied"),
        (422, refusal("Invalid", name="one", causes=[{"field": "spec"}]), "ApplyRejected"),
        (
            422,
            refusal("Invalid", name="one", causes=[{"field": "metadata.finalizers", "reason": "FieldValueForbidden"}]),
            "ApplyConflict",
        ),
        (500, refusal("InternalError"), "ClusterUnavailable"),
    ],
)
async def test_each_refusal_of_finalizers_has_its_reason(
    server: ScriptedServer, kubernetes: RealKubernetes, status: int, body: object, reason: str
) -> None:
    server.say(status, body)
    doing = kubernetes.set_finalizers("team", "one", ["a.example/b"], uid="u", resource_version="7")
    assert CANARY not in await denied(doing, reason)


async def test_an_event_that_may_have_been_created_is_tried_again(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    server.answers.append(None)
    server.say(409, refusal("AlreadyExists", name="e"))
    await kubernetes.create_event("team", {"metadata": {"name": "e"}, "reason": "Applied"})
    assert server.seen == ["POST /apis/events.k8s.io/v1/namespaces/team/events?fieldManager=jiemi"] * 2
    sent = json.loads(server.bodies[1])
    assert sent == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "team"},
        "reason": "Applied",
    }
