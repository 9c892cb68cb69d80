"""What a genuine body says: the URLs of the repository that moved, and its refs that did.

The sender is known by now, but a repository's owner writes much of the body, and not every host is well. So it is read
with bounds: on its size, its depth (by the number of its containers, and by the parser's own limit), on the URLs and
refs that are taken. What is missing or of another type is left out; it never ends in an error of Python's.

An event that moves no ref is none of ours: `read_push` gives None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

import attrs

from jiemi.core.urls import MAX_URL_CHARACTERS
from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.hosts import Form, Host

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Hosts send one commit in about 1.5 kB: this is a push of 2,000."""

_MAX_CONTAINERS = 100_000
_MAX_URLS = 16
_MAX_REFS = 1_000
_MAX_ITEMS = _MAX_REFS + 1
"""The most elements of one list that are looked at: so that too many are seen to be."""
_MAX_REF_CHARACTERS = 1_024


class MalformedPayload(ValueError):
    """The body is no event of that host. The text says what is wrong, and holds nothing of it."""


@attrs.frozen
class Push:
    """A repository moved.

    Attributes:
        urls: its URLs, by which it is cloned; empty where the body names none.
        refs: full names of the refs that moved; empty where it is not known which.
    """

    urls: tuple[str, ...]
    refs: frozenset[str] = frozenset()


def read_push(host: Host, headers: Headers, body: bytes) -> Push | None:
    """What a body says; None where the event moves no ref of a repository (a ping, a comment).

    Raises:
        MalformedPayload: it is no event of that host.
    """
    event = (headers.one(host.event) or b"").decode("ascii", "replace").lower() if host.event else ""
    data = _parse(_of_form(headers, body))
    read = _FORMS[host.form](event, data)
    if read is None:
        return None
    urls, refs = read
    return Push(
        tuple(dict.fromkeys(url for url in urls if 0 < len(url) <= MAX_URL_CHARACTERS))[:_MAX_URLS],
        # More than that are as good as not known: whoever follows the repository looks.
        frozenset(refs) if len(refs) <= _MAX_REFS else frozenset(),
    )


def _of_form(headers: Headers, body: bytes) -> bytes:
    """The JSON of a body that is an HTML form, as GitHub's and Gitea's may be; another body as it is."""
    kind = (headers.one("content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"application/x-www-form-urlencoded":
        return body
    try:
        found = parse_qs(body, max_num_fields=8).get(b"payload", [])
    except ValueError:
        found = []
    if len(found) != 1:
        raise MalformedPayload("the form has no field payload")
    return found[0]


def _parse(body: bytes) -> Mapping[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise MalformedPayload("the body is too large")
    if body.count(b"{") + body.count(b"[") > _MAX_CONTAINERS:
        raise MalformedPayload("the body has too many objects")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        # Not chained: the error of the parser holds the body.
        raise MalformedPayload("the body is no JSON") from None
    if not isinstance(data, Mapping):
        raise MalformedPayload("the body is no object")
    return data


# --- the forms

_Read = tuple[list[str], set[str]] | None


def _github(event: str, data: Mapping[str, Any]) -> _Read:
    """GitHub's, which Gitea, Forgejo and Gogs follow."""
    urls = _texts(data, "repository.clone_url", "repository.ssh_url", "repository.git_url", "repository.html_url")
    if event == "push":
        return urls, _full(_texts(data, "ref"))
    if event in ("create", "delete"):
        return urls, _typed(_texts(data, "ref_type"), _texts(data, "ref"))
    if event in ("pull_request", "pull_request_sync"):
        numbers = [each for each in _at(data, "number") if isinstance(each, int)]
        return urls, {f"refs/pull/{number}/{end}" for number in numbers for end in ("head", "merge")}
    return None


def _gitlab(event: str, data: Mapping[str, Any]) -> _Read:
    kinds = _texts(data, "object_kind", "event_name")
    urls = _texts(
        data,
        "project.git_http_url",
        "project.git_ssh_url",
        "project.http_url",
        "project.ssh_url",
        "repository.git_http_url",
        "repository.git_ssh_url",
        "project.web_url",
    )
    if "push" in kinds or "tag_push" in kinds:
        return urls, _full(_texts(data, "ref"))
    if "repository_update" in kinds:
        return urls, _full(_texts(data, "refs[]"))
    if "merge_request" in kinds:
        numbers = [each for each in _at(data, "object_attributes.iid") if isinstance(each, int)]
        return urls, {f"refs/merge-requests/{number}/{end}" for number in numbers for end in ("head", "merge")}
    return None


def _bitbucket(event: str, data: Mapping[str, Any]) -> _Read:
    if event != "repo:push":
        return None
    # The body has the addresses of pages only; those of the clones are made of the full name in a fixed way.
    urls = [
        url
        for name in _texts(data, "repository.full_name")
        for url in (f"https://bitbucket.org/{name}.git", f"ssh://git@bitbucket.org/{name}.git")
    ]
    sides = [*_at(data, "push.changes[].new"), *_at(data, "push.changes[].old")]
    refs = [_typed(_texts(side, "type"), _texts(side, "name")) for side in sides]
    # One that can't be named may be any.
    return urls + _texts(data, "repository.links.html.href"), set().union(*refs) if all(refs) else set()


def _bitbucket_data_center(event: str, data: Mapping[str, Any]) -> _Read:
    if event not in ("repo:refs_changed", "mirror:repo_synchronized"):
        return None
    urls = _texts(data, "repository.links.clone[].href")
    return urls, _full(_texts(data, "changes[].ref.id", "changes[].refId"))


def _azure_devops(event: str, data: Mapping[str, Any]) -> _Read:
    if "git.push" not in _texts(data, "eventType"):
        return None
    urls = _texts(data, "resource.repository.remoteUrl", "resource.repository.sshUrl", "resource.repository.webUrl")
    return urls, _full(_texts(data, "resource.refUpdates[].name"))


def _generic(event: str, data: Mapping[str, Any]) -> _Read:
    """Whatever names a repository and a ref in one of the usual ways; Standard Webhooks puts the event into `data`."""
    paths = ("repository", "url", "repository.url", "repository.clone_url", "repository.ssh_url")
    urls = _texts(data, *paths, *(f"data.{path}" for path in paths))
    return urls, _full(_texts(data, "ref", "data.ref"))


_CODECOMMIT = re.compile(r"arn:(aws|aws-cn|aws-us-gov):codecommit:([a-z0-9-]{1,32}):[0-9]{12}:([A-Za-z0-9._-]{1,100})")


def _codecommit(event: str, data: Mapping[str, Any]) -> _Read:
    """A message of SNS with what a trigger of CodeCommit, or its events in EventBridge, say.

    https://docs.aws.amazon.com/codecommit/latest/userguide/how-to-notify-sns.html
    https://docs.aws.amazon.com/codecommit/latest/userguide/monitoring-events.html
    """
    text = data.get("Message")
    if data.get("Type") != "Notification" or not isinstance(text, str):
        return None
    try:
        said = _parse(text.encode("utf-8", "surrogatepass"))
    except MalformedPayload:
        return None  # others may write to the topic too
    names = _texts(said, "Records[].eventSourceARN")
    refs = _texts(said, "Records[].codecommit.references[].ref")
    if "aws.codecommit" in _texts(said, "source"):
        if not any(each.startswith("reference") for each in _texts(said, "detail.event")):
            return None
        names = _texts(said, "resources[]")
        refs = _texts(said, "detail.referenceFullName")
    found = [match for each in names if (match := _CODECOMMIT.fullmatch(each))]
    if not found:
        return None
    domains = {"aws-cn": "amazonaws.com.cn"}
    places = [f"git-codecommit.{each[2]}.{domains.get(each[1], 'amazonaws.com')}/v1/repos/{each[3]}" for each in found]
    return [f"{scheme}://{place}" for place in places for scheme in ("https", "ssh")], _full(refs)


_CDEVENTS = ("dev.cdevents.change.merged.", "dev.cdevents.branch.", "dev.cdevents.repository.")


def _cdevents(event: str, data: Mapping[str, Any]) -> _Read:
    """https://github.com/cdevents/spec/blob/main/source-code-version-control.md

    `change.merged` and `branch` refer to the repository by its id, which may be a URL, and its source.
    """
    if not any(each.startswith(_CDEVENTS) for each in _texts(data, "context.type")):
        return None
    ids, sources = _texts(data, "subject.content.repository.id"), _texts(data, "subject.content.repository.source")
    within = [f"{source.rstrip('/')}/{each}" for source in sources[:1] for each in ids[:1]]
    return _texts(data, "subject.content.url", "subject.content.repository.url") + ids + within, set()


_FORMS: Mapping[Form, Callable[[str, Mapping[str, Any]], _Read]] = MappingProxyType(
    {
        Form.GITHUB: _github,
        Form.GITLAB: _gitlab,
        Form.BITBUCKET: _bitbucket,
        Form.BITBUCKET_DATA_CENTER: _bitbucket_data_center,
        Form.AZURE_DEVOPS: _azure_devops,
        Form.CODECOMMIT: _codecommit,
        Form.GENERIC: _generic,
        Form.CDEVENTS: _cdevents,
    }
)


def _at(data: Any, path: str) -> Iterator[Any]:
    """What is at a path: `a.b[].c` is c of each element of the list b. Nothing where it does not lead anywhere."""
    name, _, rest = path.partition(".")
    found = data.get(name.removesuffix("[]")) if isinstance(data, Mapping) else None
    each_of = found[:_MAX_ITEMS] if name.endswith("[]") and isinstance(found, list) else [found]
    for each in each_of:
        if rest:
            yield from _at(each, rest)
        elif each is not None:
            yield each


def _texts(data: Any, *paths: str) -> list[str]:
    return [each for path in paths for each in _at(data, path) if isinstance(each, str)]


def _full(refs: list[str]) -> set[str]:
    """Names that are full names of refs. One that is not full may be any."""
    if not all(ref.startswith("refs/") and len(ref) <= _MAX_REF_CHARACTERS for ref in refs):
        return set()
    return set(refs)


_KINDS = {"branch": "refs/heads/", "named_branch": "refs/heads/", "tag": "refs/tags/", "annotated_tag": "refs/tags/"}


def _typed(kinds: list[str], names: list[str]) -> set[str]:
    if len(kinds) != 1 or len(names) != 1 or kinds[0] not in _KINDS:
        return set()
    return {f"{_KINDS[kinds[0]]}{names[0]}"}
