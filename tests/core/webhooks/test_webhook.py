"""Which Secrets declare a webhook."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from support.webhooks.requests import SECRET, SIGNING_TOKEN

from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.oidc import OidcTrust
from jiemi.core.webhooks.repository import repository_key
from jiemi.core.webhooks.webhook import LABEL, REPOSITORIES, WebhookUnusable, read_webhook


def _secret(kind: str | None, *, annotations: Any = None, **data: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "team-a", "name": "app", "annotations": annotations}
    if kind is not None:
        metadata["labels"] = {LABEL: kind}
    return {"metadata": metadata, "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}}


def test_each_key_is_a_secret_and_a_line_break_at_its_end_is_not_meant() -> None:
    found = read_webhook(_secret("github", new=SECRET + "\n", old="another-secret-of-characters\r\n"))
    assert found.key == ("team-a", "app")
    assert found.secrets == (SensitiveText(SECRET), SensitiveText("another-secret-of-characters"))
    assert found.repositories == frozenset()


def test_a_webhook_of_codecommit_names_topics_and_one_of_an_issuer_whom_it_trusts() -> None:
    topic = "arn:aws-cn:sns:cn-north-1:111122223333:pushes"
    assert read_webhook(_secret("codecommit", topic=topic + "\n")).secrets == (SensitiveText(topic),)
    trust = {"issuer": "https://issuer.example/realm", "audience": "jiemi", "subject": "repo:acme/*"}
    found = read_webhook(_secret("oidc", **{key: value + "\n" for key, value in trust.items()}))
    assert found.trust == OidcTrust(**trust)
    assert found.secrets == ()


def test_a_webhook_may_be_for_some_repositories() -> None:
    urls = "https://git.internal/o/r.git  git@git.internal:o/s"
    found = read_webhook(_secret("gitlab", annotations={REPOSITORIES: urls}, token=SIGNING_TOKEN))
    assert found.repositories == {
        repository_key("https://git.internal/o/r"),
        repository_key("https://git.internal/o/s"),
    }


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        (_secret(None, a=SECRET), LABEL),
        (_secret("", a=SECRET), LABEL),
        (_secret("github-enterprise", a=SECRET), LABEL),
        (_secret("github"), "no keys"),
        ({"metadata": {"namespace": "n", "name": "a", "labels": {LABEL: "github"}}}, "no keys"),
        (_secret("github", **{f"k{i}": SECRET for i in range(9)}), "more than 8"),
        (_secret("github", a="short"), "key a: "),
        (_secret("github", a=SECRET, b=""), "key b: "),
        (_secret("github", a="x" * 100_000), "key a: "),
        (_secret("standard", a=SECRET), "whsec_"),
        (_secret("codecommit", a=SECRET), "key a: it must be the ARN of a topic"),
        (_secret("codecommit", a="arn:aws:sqs:eu-west-1:111122223333:a"), "key a: it must be the ARN of a topic"),
        (_secret("oidc"), "no keys"),
        (_secret("oidc", issuer="https://i", audience="a"), "no key subject: one of the kind oidc needs issuer,"),
        (_secret("oidc", issuer="https://i", subject="s"), "no key audience"),
        (_secret("oidc", audience="a", subject="s"), "no key issuer"),
        (_secret("oidc", issuer="https://i", audience="a", subject="s", other="x"), "key other: "),
        (_secret("oidc", issuer="http://i", audience="a", subject="s"), "key issuer: "),
        (_secret("oidc", issuer="https://u:p@i", audience="a", subject="s"), "key issuer: "),
        (_secret("oidc", issuer="https://i", audience="a b", subject="s"), "key audience: "),
        (_secret("oidc", issuer="https://i", audience="a", subject=""), "key subject: "),
        ({**_secret("github"), "data": {"a": "%%%"}}, "no text"),
        ({**_secret("github"), "data": {"a": "/w=="}}, "no text"),
        ({**_secret("github"), "data": {"a": 1}}, "key a: "),
        (_secret("github", annotations={REPOSITORIES: " "}, a=SECRET), REPOSITORIES),
        (_secret("github", annotations={REPOSITORIES: "https://h/r nonsense"}, a=SECRET), "entry 2"),
        (_secret("github", annotations={REPOSITORIES: "https://h/r " * 101}, a=SECRET), REPOSITORIES),
    ],
)
def test_what_declares_no_usable_webhook_is_refused_by_name_and_no_value_is_shown(
    secret: dict[str, Any], what: str
) -> None:
    with pytest.raises(WebhookUnusable) as caught:
        read_webhook(secret)
    assert what in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "nonsense" not in str(caught.value)
    assert caught.value.__cause__ is None
