"""What bodies say: the repository and the refs that moved."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.webhooks.requests import FORMS, Request, place, request

from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.hosts import HOSTS
from jiemi.core.webhooks.payload import MAX_BODY_BYTES, MalformedPayload, Push, read_push
from jiemi.core.webhooks.repository import repository_key


def _read(sent: Request) -> Push | None:
    return read_push(HOSTS[sent.kind], sent.headers, sent.body)


@pytest.mark.parametrize("form", FORMS)
def test_a_push_names_its_repository_in_https_and_ssh_form(form: str) -> None:
    found = _read(request(form))
    assert found is not None
    keys = {repository_key(url) for url in found.urls}
    https, ssh = place(form)
    assert repository_key(https) in keys
    assert repository_key(ssh) in keys


@pytest.mark.parametrize("form", [each for each in FORMS if each != "cdevents"])
@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/heads/a/b", "refs/tags/v1.0.0"])
def test_a_push_names_the_ref_that_moved(form: str, ref: str) -> None:
    found = _read(request(form, ref))
    assert found is not None
    assert found.refs == {ref}


def _event(kind: str, header: str, event: str, body: Any) -> Push | None:
    fields = ((header.encode(), event.encode()),) if header else ()
    return read_push(HOSTS[kind], Headers(fields), json.dumps(body).encode())


@pytest.mark.parametrize(
    ("kind", "header", "event", "body"),
    [
        ("github", "x-github-event", "ping", {"zen": "x", "repository": {"clone_url": "https://h/r"}}),
        ("github", "x-github-event", "issues", {"repository": {"clone_url": "https://h/r"}}),
        ("github", "x-other", "push", {"repository": {"clone_url": "https://h/r"}}),
        ("gitlab", "x-gitlab-event", "Note Hook", {"object_kind": "note"}),
        ("gitlab", "x-gitlab-event", "Push Hook", {"object_kind": "pipeline"}),
        ("bitbucket", "x-event-key", "repo:fork", {"repository": {"full_name": "o/r"}}),
        ("bitbucket-data-center", "x-event-key", "diagnostics:ping", {"test": True}),
        ("azure-devops", "", "", {"eventType": "build.complete"}),
        ("cdevents", "", "", {"context": {"type": "dev.cdevents.build.finished.0.1.1"}}),
    ],
)
def test_an_event_that_moves_no_ref_is_none(kind: str, header: str, event: str, body: Any) -> None:
    assert _event(kind, header, event, body) is None


@pytest.mark.parametrize(
    ("kind", "header", "event", "body", "refs"),
    [
        ("github", "x-github-event", "create", {"ref": "v1", "ref_type": "tag"}, {"refs/tags/v1"}),
        ("github", "x-github-event", "delete", {"ref": "a/b", "ref_type": "branch"}, {"refs/heads/a/b"}),
        ("github", "x-github-event", "delete", {"ref": "a/b", "ref_type": "other"}, set()),
        (
            "github",
            "x-github-event",
            "pull_request",
            {"number": 420},
            {"refs/pull/420/head", "refs/pull/420/merge"},
        ),
        ("github", "x-github-event", "push", {"ref": "main"}, set()),
        (
            "gitlab",
            "x-gitlab-event",
            "Merge Request Hook",
            {"object_kind": "merge_request", "object_attributes": {"iid": 1}},
            {"refs/merge-requests/1/head", "refs/merge-requests/1/merge"},
        ),
        (
            "gitlab",
            "x-gitlab-event",
            "System Hook",
            {"event_name": "repository_update", "refs": ["refs/heads/a", "refs/heads/b"]},
            {"refs/heads/a", "refs/heads/b"},
        ),
        (
            "bitbucket",
            "x-event-key",
            "repo:push",
            {"push": {"changes": [{"old": {"type": "branch", "name": "x"}, "new": None}]}},
            {"refs/heads/x"},
        ),
        (
            "bitbucket",
            "x-event-key",
            "repo:push",
            {"push": {"changes": [{"new": {"type": "branch", "name": "x"}}, {"new": {"type": "bookmark"}}]}},
            set(),
        ),
        (
            "azure-devops",
            "",
            "",
            {"eventType": "git.push", "resource": {"refUpdates": [{"name": f"refs/heads/{i}"} for i in range(3)]}},
            {"refs/heads/0", "refs/heads/1", "refs/heads/2"},
        ),
    ],
)
def test_the_refs_of_other_events(kind: str, header: str, event: str, body: Any, refs: set[str]) -> None:
    found = _event(kind, header, event, body)
    assert found is not None
    assert found.refs == refs


@pytest.mark.parametrize("form", ["github", "gitea", "gogs"])
def test_a_body_may_be_a_form_whose_field_is_the_json(form: str) -> None:
    sent = request(form)
    as_form = sent.with_body(urlencode({"payload": sent.body}).encode()).with_field(
        "Content-Type", "application/x-www-form-urlencoded; charset=utf-8"
    )
    assert _read(as_form) == _read(sent)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b"\xff\xfe",
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a":[' + b"{}," * 100_001 + b"1]}",
        b" " * (MAX_BODY_BYTES + 1),
    ],
    ids=lambda body: f"{body[:6]!r}",
)
def test_what_is_no_event_is_malformed_and_not_quoted(body: bytes) -> None:
    with pytest.raises(MalformedPayload) as caught:
        read_push(HOSTS["generic"], Headers(()), body)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 60


@pytest.mark.parametrize("body", [b"", b"payload", b"payload=%7B%7D&payload=%7B%7D", b"a=1&" * 9, b"other=%7B%7D"])
def test_a_form_without_its_one_field_is_malformed(body: bytes) -> None:
    kind = ((b"content-type", b"application/x-www-form-urlencoded"),)
    with pytest.raises(MalformedPayload):
        read_push(HOSTS["github"], Headers(kind), body)


def test_many_urls_and_refs_are_bounded() -> None:
    refs = [{"name": f"refs/heads/{i}"} for i in range(1_001)]
    event = {"eventType": "git.push", "resource": {"refUpdates": refs}}
    assert _event("azure-devops", "", "", event) == Push(())  # not known, which is all of them
    clone = [{"href": f"https://h/{i}"} for i in range(100)] + [{"href": "x" * 5_000}]
    body = {"repository": {"links": {"clone": clone}}, "changes": []}
    found = _event("bitbucket-data-center", "x-event-key", "repo:refs_changed", body)
    assert found is not None
    assert len(found.urls) == 16


_KEYS = st.sampled_from(
    [
        "repository",
        "project",
        "push",
        "changes",
        "new",
        "old",
        "type",
        "name",
        "ref",
        "refs",
        "clone",
        "links",
        "href",
        "resource",
        "refUpdates",
        "remoteUrl",
        "eventType",
        "object_kind",
        "event_name",
        "context",
        "subject",
        "content",
        "id",
        "source",
        "url",
        "data",
        "clone_url",
        "number",
        "object_attributes",
        "iid",
    ]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["git.push", "push", "branch", "refs/heads/x", "https://h/r", "dev.cdevents.branch.created.0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(
    kind=st.sampled_from(sorted(HOSTS)),
    event=st.sampled_from(["push", "create", "pull_request", "repo:push", "repo:refs_changed"]),
    body=st.dictionaries(_KEYS, _VALUES, max_size=6),
)
def test_any_json_is_a_push_or_none(kind: str, event: str, body: Any) -> None:
    found = _event(kind, HOSTS[kind].event, event, body)
    assert found is None or all(isinstance(each, str) for each in (*found.urls, *found.refs))


@given(body=st.binary(max_size=300), kind=st.sampled_from(sorted(HOSTS)))
def test_any_bytes_are_a_push_or_none_or_malformed(body: bytes, kind: str) -> None:
    try:
        found = read_push(HOSTS[kind], Headers(()), body)
    except MalformedPayload:
        return
    assert found is None or isinstance(found, Push)
