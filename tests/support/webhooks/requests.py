"""One request for each form: its body, its headers, signed as its host signs."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from jiemi.core.webhooks.headers import Headers

SECRET = "a-secret-of-thirty-two-characters"
SIGNING_TOKEN = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BASIC = "jiemi:a-password-that-is-long"

NOW = datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC)


@attrs.frozen
class Request:
    """A request of a host.

    Attributes:
        kind: the host.
        secret: what it is signed with.
    """

    kind: str
    secret: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def headers(self) -> Headers:
        return Headers(tuple((name.lower().encode(), value.encode()) for name, value in self.fields))

    def without(self, *names: str) -> Request:
        return attrs.evolve(self, fields=tuple((k, v) for k, v in self.fields if k.lower() not in names))

    def with_field(self, name: str, value: str) -> Request:
        """With that value of a header in place of those that there are."""
        return attrs.evolve(self.without(name.lower()), fields=(*self.without(name.lower()).fields, (name, value)))

    def with_body(self, body: bytes) -> Request:
        return attrs.evolve(self, body=body)


def _hex(secret: str, body: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


def standard_fields(secret: str, body: bytes, now: datetime.datetime, delivery: str) -> tuple[tuple[str, str], ...]:
    """The three headers of Standard Webhooks."""
    at = str(int(now.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.new(key, f"{delivery}.{at}.".encode() + body, hashlib.sha256).digest()
    return (
        ("webhook-id", delivery),
        ("webhook-timestamp", at),
        ("webhook-signature", "v1," + base64.b64encode(made).decode()),
    )


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def github_body(https: str, ssh: str, ref: str) -> bytes:
    repository = {"full_name": "o/r", "clone_url": https, "ssh_url": ssh, "html_url": https.removesuffix(".git")}
    commit = {"id": "b" * 40, "message": 'A change of [brackets] and "quotes"', "added": [], "modified": ["a.yaml"]}
    return _json({"ref": ref, "before": "a" * 40, "after": "b" * 40, "repository": repository, "commits": [commit]})


def gitlab_body(https: str, ssh: str, ref: str) -> bytes:
    project = {"id": 15, "git_http_url": https, "git_ssh_url": ssh, "web_url": https.removesuffix(".git")}
    kind = "tag_push" if ref.startswith("refs/tags/") else "push"
    return _json({"object_kind": kind, "event_name": kind, "ref": ref, "checkout_sha": "b" * 40, "project": project})


def _bitbucket_body(https: str, ssh: str, ref: str) -> bytes:
    kind, name = ("tag", ref[10:]) if ref.startswith("refs/tags/") else ("branch", ref[11:])
    side = {"type": kind, "name": name, "target": {"hash": "b" * 40}}
    page = {"html": {"href": "https://bitbucket.org/o/r"}}
    return _json(
        {
            "repository": {"full_name": "o/r", "links": page},
            "push": {"changes": [{"old": None, "new": side, "created": True}]},
        }
    )


def _data_center_body(https: str, ssh: str, ref: str) -> bytes:
    clone = [{"href": ssh, "name": "ssh"}, {"href": https, "name": "http"}]
    change = {"ref": {"id": ref, "displayId": ref, "type": "BRANCH"}, "refId": ref, "type": "UPDATE"}
    repository = {"slug": "r", "links": {"clone": clone}, "project": {"key": "O"}}
    return _json({"eventKey": "repo:refs_changed", "repository": repository, "changes": [change]})


def _azure_body(https: str, ssh: str, ref: str) -> bytes:
    return _json(
        {
            "id": "03c164c2-8912-4d5e-8009-3707d5f83734",
            "eventType": "git.push",
            "publisherId": "tfs",
            "resource": {
                "refUpdates": [{"name": ref, "oldObjectId": "a" * 40, "newObjectId": "b" * 40}],
                "repository": {"name": "r", "remoteUrl": https.replace("https://", "https://o@")},
            },
        }
    )


def _generic_body(https: str, ssh: str, ref: str) -> bytes:
    return _json({"repository": https, "ref": ref})


def _standard_body(https: str, ssh: str, ref: str) -> bytes:
    return _json({"type": "git.push", "data": {"repository": {"clone_url": https, "ssh_url": ssh}, "ref": ref}})


def _cdevents_body(https: str, ssh: str, ref: str) -> bytes:
    context = {"type": "dev.cdevents.change.merged.0.2.0", "version": "0.4.1", "source": "/event/source/123"}
    subject = {"id": "mySubject", "content": {"repository": {"id": "o/r", "source": https.removesuffix("/o/r.git")}}}
    return _json({"context": context, "subject": subject})


def _id() -> str:
    return str(uuid.uuid4())


_Fields = Callable[[bytes], tuple[tuple[str, str], ...]]

_FORMS: dict[str, tuple[str, str, Callable[[str, str, str], bytes], _Fields]] = {
    "github": (
        "github",
        SECRET,
        github_body,
        lambda body: (
            ("X-GitHub-Event", "push"),
            ("X-GitHub-Delivery", _id()),
            ("X-Hub-Signature", f"sha1={_hex(SECRET, body, 'sha1')}"),
            ("X-Hub-Signature-256", f"sha256={_hex(SECRET, body)}"),
        ),
    ),
    "gitlab token": (
        "gitlab",
        SECRET,
        gitlab_body,
        lambda body: (
            ("X-Gitlab-Event", "Push Hook"),
            ("X-Gitlab-Event-UUID", _id()),
            ("Idempotency-Key", _id()),
            ("X-Gitlab-Token", SECRET),
        ),
    ),
    "gitlab signing token": (
        "gitlab",
        SIGNING_TOKEN,
        gitlab_body,
        lambda body: (("X-Gitlab-Event", "Push Hook"), *standard_fields(SIGNING_TOKEN, body, NOW, _id())),
    ),
    "gitea": (
        "gitea",
        SECRET,
        github_body,
        lambda body: (
            ("X-Gitea-Event", "push"),
            ("X-GitHub-Event", "push"),
            ("X-Gitea-Delivery", _id()),
            ("X-Gitea-Signature", _hex(SECRET, body)),
            ("X-Hub-Signature-256", f"sha256={_hex(SECRET, body)}"),
        ),
    ),
    "forgejo": (
        "forgejo",
        SECRET,
        github_body,
        lambda body: (
            ("X-Forgejo-Event", "push"),
            ("X-Gitea-Event", "push"),
            ("X-Forgejo-Delivery", _id()),
            ("X-Forgejo-Signature", _hex(SECRET, body)),
            ("X-Gitea-Signature", _hex(SECRET, body)),
        ),
    ),
    "gogs": (
        "gogs",
        SECRET,
        github_body,
        lambda body: (
            ("X-Gogs-Event", "push"),
            ("X-Gogs-Delivery", _id()),
            ("X-Gogs-Signature", _hex(SECRET, body)),
        ),
    ),
    "bitbucket": (
        "bitbucket",
        SECRET,
        _bitbucket_body,
        lambda body: (
            ("X-Event-Key", "repo:push"),
            ("X-Hook-UUID", _id()),
            ("X-Request-UUID", _id()),
            ("X-Attempt-Number", "1"),
            ("X-Hub-Signature", f"sha256={_hex(SECRET, body)}"),
        ),
    ),
    "bitbucket data center": (
        "bitbucket-data-center",
        SECRET,
        _data_center_body,
        lambda body: (
            ("X-Event-Key", "repo:refs_changed"),
            ("X-Request-Id", _id()),
            ("X-Hub-Signature", f"sha256={_hex(SECRET, body)}"),
        ),
    ),
    "azure devops": (
        "azure-devops",
        BASIC,
        _azure_body,
        lambda body: (("Authorization", "Basic " + base64.b64encode(BASIC.encode()).decode()),),
    ),
    "standard webhooks": (
        "standard",
        SIGNING_TOKEN,
        _standard_body,
        lambda body: standard_fields(SIGNING_TOKEN, body, NOW, f"msg_{_id()}"),
    ),
    "generic sha256": (
        "generic",
        SECRET,
        _generic_body,
        lambda body: (("X-Signature", f"sha256={_hex(SECRET, body)}"),),
    ),
    "generic sha512": (
        "generic",
        SECRET,
        _generic_body,
        lambda body: (("X-Signature", f"sha512={_hex(SECRET, body, 'sha512')}"),),
    ),
    "cdevents": (
        "cdevents",
        SECRET,
        _cdevents_body,
        lambda body: (
            ("Ce-Id", _id()),
            ("Ce-Type", "dev.cdevents.change.merged.0.2.0"),
            ("X-Signature", f"sha256={_hex(SECRET, body)}"),
        ),
    ),
}

FORMS = tuple(_FORMS)

PLACES: dict[str, tuple[str, str]] = {
    "bitbucket": ("https://bitbucket.org/o/r.git", "git@bitbucket.org:o/r.git"),
    "azure devops": ("https://dev.azure.com/o/p/_git/r", "git@ssh.dev.azure.com:v3/o/p/r"),
    "bitbucket data center": ("https://git.example/scm/o/r.git", "ssh://git@git.example:7999/o/r.git"),
}
"""The URLs of the repository by which the form's request names it, where they are not those of the others."""


def place(form: str) -> tuple[str, str]:
    """The https and the ssh URL of the repository in the form's request."""
    return PLACES.get(form, ("https://git.example/o/r.git", "git@git.example:o/r.git"))


def request(form: str, ref: str = "refs/heads/main", urls: tuple[str, str] | None = None) -> Request:
    """A push as that form sends it, with an id of its own."""
    kind, secret, body_of, fields_of = _FORMS[form]
    body = body_of(*(urls or place(form)), ref)
    return Request(kind, secret, (("Content-Type", "application/json"), *fields_of(body)), body)


def raw(sent: Request, path: str = "/webhooks/team-a/app", *, chunked: bool = False) -> bytes:
    """The bytes of a request."""
    fields = [("Host", "x"), *sent.fields]
    body = sent.body
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
        parts = [body[at : at + 100] for at in range(0, len(body), 100)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        fields.append(("Content-Length", str(len(body))))
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
    return head.encode() + b"\r\n" + body


def status(answer: bytes) -> int:
    """The status of an answer; 0 where there is none."""
    return int(answer.split(b" ")[1]) if answer else 0
