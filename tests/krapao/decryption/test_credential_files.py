"""Service accounts' key files and certificates: what is taken, and what is refused without a quote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from krapao.decryption.credential_samples import (
    CANARY,
    CERTIFICATE,
    account,
    assert_says_nothing,
    certificate,
    made,
    secret,
)

from jiemi.core.errors import JiemiError
from jiemi.krapao.decryption.credential_files import require_authorities, service_account
from jiemi.rpc.keys import GcpKey


def test_authorities_are_one_certificate_or_several() -> None:
    require_authorities(secret(CERTIFICATE), "x")
    require_authorities(secret(CERTIFICATE + "\n# a comment\n" + certificate(key=False)), "x")
    with pytest.raises(JiemiError, match="x holds no certificate"):
        require_authorities(secret(""), "x")


def test_a_service_accounts_key_file_is_one_line_with_the_known_fields_only() -> None:
    text = account(
        universe_domain="googleapis.com", auth_uri="https://evil.example", quota_project_id="q", x=[1], url="f"
    )
    found = service_account(secret(text))
    assert found.isascii()
    assert found.isprintable()
    assert json.loads(found) == json.loads(account(universe_domain="googleapis.com"))


def test_a_service_account_without_a_token_address_gets_googles() -> None:
    found = json.loads(service_account(secret(account(token_uri=None))))
    assert found["token_uri"] == "https://oauth2.googleapis.com/token"


@pytest.mark.parametrize(
    "kind", ["external_account", "external_account_authorized_user", "authorized_user", "impersonated_service_account"]
)
def test_credential_files_of_other_types_are_refused(kind: str) -> None:
    text = account(
        type=kind,
        credential_source={
            "file": "/etc/passwd",
            "executable": {"command": "/bin/sh"},
            "url": "http://169.254.169.254",
        },
        token_url=f"https://{CANARY}.example",
        service_account_impersonation_url="https://evil.example",
    )
    with pytest.raises(JiemiError, match="of another type than service_account") as caught:
        made(GcpKey(service_account=secret(text)))
    assert caught.value.failure.reason == "KeyInvalid"
    assert_says_nothing(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CANARY, "is no JSON object"),
        (f'"{CANARY}"', "is no JSON object"),
        (f'["{CANARY}"]', "is no JSON object"),
        (f'{{"type": "service_account", "{CANARY}"', "is no JSON object"),
        ("[" * 100_000 + CANARY, "is no JSON object"),
        (f'{{"private_key": "{CANARY}"}}', "of another type"),
        (account(type=[CANARY]), "of another type"),
        (account(type="Service_Account"), "of another type"),
        (account(private_key=None), "has no private_key"),
        (account(private_key=""), "has no private_key"),
        (account(private_key={"a": CANARY}), "has no private_key"),
        (account(client_email=None), "has no client_email"),
        (account(client_email=7), "has no client_email"),
        (account(token_uri=f"file:///{CANARY}"), "its token_uri is no URL"),
        (account(token_uri=f"https://user:{CANARY}@host.example"), "its token_uri is no URL"),
        (account(token_uri=[CANARY]), "its token_uri is no URL"),
    ],
)
def test_what_is_no_service_accounts_key_file_is_refused_without_being_quoted(text: str, says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        made(GcpKey(service_account=secret(text)))
    assert caught.value.failure.reason == "KeyInvalid"
    assert says in caught.value.failure.text
    assert_says_nothing(caught.value)


@given(
    st.dictionaries(
        st.sampled_from(["type", "private_key", "client_email", "token_uri", "universe_domain", "project_id", "url"])
        | st.text(),
        st.sampled_from(["service_account", "https://a.example", "external_account"]) | st.text() | st.integers(),
    )
)
def test_any_object_is_a_service_account_of_known_text_fields_or_refused(fields: dict[str, Any]) -> None:
    try:
        found = json.loads(service_account(secret(json.dumps(fields))))
    except JiemiError as error:
        assert error.failure.reason == "KeyInvalid"
        return
    assert found["type"] == "service_account"
    assert found.keys() <= {"type", "private_key", "client_email", "token_uri", "universe_domain", "project_id"}
    assert all(isinstance(value, str) for value in found.values())
