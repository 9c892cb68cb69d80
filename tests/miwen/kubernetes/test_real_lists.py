"""Pages that fit into memory, whatever tenants write; and the others in spite of an object that does not."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from fakes.kubernetes_server import CANARY, ScriptedServer, refusal, settings_for
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.http import MAX_ANSWER_BYTES
from jiemi.miwen.kubernetes.pages import Items, page_without_items, read_page
from jiemi.miwen.kubernetes.port import Page
from jiemi.miwen.kubernetes.real import RealKubernetes, open_kubernetes
from jiemi.miwen.kubernetes.real_lists import MAX_PAGE_BYTES, PAGES_UNTIL_MORE

SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)
TOO_LARGE = CANARY.ljust(MAX_PAGE_BYTES, "x")


def listed(*items: Any, token: str | None = None) -> dict[str, Any]:
    metadata = {"resourceVersion": "7"} | ({"continue": token} if token else {})
    return {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}


def item(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}}


async def page_of(kubernetes: RealKubernetes, *, limit: int = 100, token: str | None = None) -> Page:
    return await kubernetes.list_metadata(
        SECRETS, label_selector="", field_selector="", limit=limit, continue_token=token
    )


def limits(server: ScriptedServer) -> list[int]:
    """The limits that were asked for; what was seen is forgotten."""
    found = [int(each.partition("limit=")[2].partition("&")[0]) for each in server.seen]
    server.seen.clear()
    return found


async def test_a_page_that_is_too_large_is_asked_for_again_with_half_as_many(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    for _ in range(3):
        server.say(200, listed(TOO_LARGE))
    server.say(200, listed(item("a"), token="more"))
    page = await page_of(kubernetes, token="first")
    assert (page.items, page.continue_token, page.left_out) == ((item("a"),), "more", 0)
    assert all("continue=first" in each for each in server.seen)
    assert limits(server) == [100, 50, 25, 12]
    # It grows again slowly.
    for _ in range(5 * PAGES_UNTIL_MORE):
        server.say(200, listed(item("a"), token="more"))
        await page_of(kubernetes, token="more")
    first, *rest = limits(server)
    assert first == 12
    assert rest == sorted(rest)
    assert [rest.count(limit) for limit in (24, 48, 96)] == [PAGES_UNTIL_MORE] * 3
    assert rest[-1] == 100


async def test_the_next_try_of_a_page_that_did_not_come_in_time_asks_for_half_as_many(
    server: ScriptedServer, tmp_path: Path
) -> None:
    async with open_kubernetes(settings_for(server, tmp_path, request_timeout_seconds=0.2)) as kubernetes:
        for _ in range(8):
            server.answers.append(b"")
            with pytest.raises(
                JiemiError, match=r"^ClusterUnavailable: listing secrets: .* did not answer within 0\.2 s"
            ):
                await page_of(kubernetes)
        assert limits(server) == [100, 50, 25, 12, 6, 3, 1, 1]
        for _ in range(6 * PAGES_UNTIL_MORE):
            server.say(200, listed(item("a"), token="more"))
            await page_of(kubernetes, token="more")
        grown = limits(server)
        assert [grown.count(limit) for limit in (1, 2, 4)] == [PAGES_UNTIL_MORE] * 3


async def test_an_object_that_is_too_large_by_itself_is_left_out_and_the_others_are_listed(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    server.say(200, listed(TOO_LARGE, token="after"))
    page = await page_of(kubernetes, limit=1)
    assert (page.items, page.resource_version, page.continue_token, page.left_out) == ((), "7", "after", 1)
    server.say(200, listed(TOO_LARGE))
    assert (await page_of(kubernetes, limit=1, token="after")).continue_token is None


async def test_a_decryptor_that_is_too_large_is_left_out_by_the_list_of_metadata(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    items_first = {"items": [TOO_LARGE], "metadata": {"resourceVersion": "7", "continue": "after"}}
    for answer in (listed(item("a"), token="after"), listed(TOO_LARGE, token="after")):
        server.say(200, items_first)
        server.say(200, answer)
        page = await kubernetes.list_decryptors(limit=1, continue_token=None)
        assert (page.items, page.resource_version, page.continue_token, page.left_out) == ((), "7", "after", 1)
        assert "as=PartialObjectMetadataList" in server.headers[-1]["accept"]


async def test_what_is_too_large_and_no_list_is_reported_without_its_content(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    server.say(200, {"items": [TOO_LARGE]})
    with pytest.raises(JiemiError) as caught:
        await page_of(kubernetes, limit=1)
    assert caught.value.failure.reason == "ClusterUnavailable"
    assert caught.value.failure.message == (
        f"listing secrets: the answer is larger than {MAX_PAGE_BYTES} bytes, which is the most that is read"
    )


async def test_an_object_and_a_refusal_are_not_read_without_end(
    server: ScriptedServer, kubernetes: RealKubernetes
) -> None:
    server.say(200, {"data": CANARY * (MAX_ANSWER_BYTES // len(CANARY))})
    with pytest.raises(JiemiError, match="ClusterUnavailable: reading Secret a/b: the answer is larger than") as caught:
        await kubernetes.get_secret("a", "b")
    assert CANARY not in str(caught.value)
    server.say(503, refusal() | {"more": TOO_LARGE})
    with pytest.raises(JiemiError, match="ClusterUnavailable: listing secrets: the API server answered 503"):
        await page_of(kubernetes)


def test_a_page_takes_little_memory_though_its_objects_take_much() -> None:
    """Three Secrets with 100,000 keys each, as managedFields have them; and one letter that makes text four times as
    large in memory."""
    keys = ",".join(f'"f:{number:x}":{{}}' for number in range(110_000))
    fields = '{"metadata":{"name":"x","managedFields":[{"fieldsV1":{%s}}],"annotations":{"a":"\N{SLICE OF PIZZA}"}}}'
    body = ('{"metadata":{"resourceVersion":"7"},"items":[' + ",".join([fields % keys] * 3) + "]}").encode()
    assert MAX_PAGE_BYTES * 0.9 < len(body) < MAX_PAGE_BYTES
    tracemalloc.start()
    try:
        page = read_page(body)
        assert page is not None
        for each in page.items:
            assert len(each["metadata"]["managedFields"][0]["fieldsV1"]) == 110_000
            del each
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(body) + peak < 64 * 1024 * 1024


_JSON = json_values(st.text(max_size=8), st.floats(allow_nan=False))


@given(
    st.lists(_JSON, max_size=4), st.dictionaries(st.text(max_size=8), _JSON), st.sampled_from([None, 1]), st.booleans()
)
def test_a_page_is_what_its_json_says(
    items: list[Any], more: dict[str, Any], indent: int | None, is_first: bool
) -> None:
    metadata = {"resourceVersion": "7", "continue": "next"}
    ordered = {"items": items, "metadata": metadata} if is_first else {"metadata": metadata, "items": items}
    listed = {**{name: value for name, value in more.items() if name not in ordered}, **ordered}
    body = json.dumps(listed, indent=indent, ensure_ascii=False).encode()
    expected = tuple(each for each in items if isinstance(each, dict))
    page = read_page(body)
    assert page is not None
    assert (page.resource_version, page.continue_token, page.left_out) == ("7", "next", 0)
    assert (page.items, len(page.items), page.items[1:]) == (expected, len(expected), expected[1:])
    assert read_page(body[:-1]) is None
    assert read_page(body + b"x") is None
    without = page_without_items(body[: body.find(b'"items"') + 20])
    if not is_first:
        assert without == Page((), "7", "next", 1)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,items metadata', max_size=60).map(str.encode))
def test_no_body_makes_reading_fail(body: bytes) -> None:
    assert read_page(body) is None or isinstance(json.loads(body), dict)
    page_without_items(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"items":[]}',
        b'{"metadata":{},"items":[]}',
        b'{"metadata":{"resourceVersion":"7"},"items":7}',
        b'{"metadata":{"resourceVersion":"7"},"items":[{}',
        b'{"metadata":{"resourceVersion":"7"},"items":' + b"[" * 100_000,
        b'{"metadata":{"resourceVersion":"7"},"items":["\xff"]}',
    ],
)
def test_what_is_no_list_is_no_page(body: bytes) -> None:
    assert read_page(body) is None


def test_a_list_without_items_is_an_empty_page() -> None:
    assert read_page(b' { "metadata" : { "resourceVersion" : "7" } , "items" : null } ') == Page(Items(()), "7", None)
