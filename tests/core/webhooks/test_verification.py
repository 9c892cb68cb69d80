"""Which requests are genuine."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.webhooks.requests import BASIC, FORMS, NOW, SECRET, SIGNING_TOKEN, Request, request, standard_fields

from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.deliveries import REMEMBERED, Deliveries
from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.hosts import HOSTS
from jiemi.core.webhooks.verdict import Verdict
from jiemi.core.webhooks.verification import (
    MAX_SECRETS,
    WINDOW,
    check_secret,
    delivery_id,
    is_signed,
    verify,
)

OTHER = "another-secret-of-many-characters"
OTHER_TOKEN = "whsec_" + base64.b64encode(bytes(32)).decode()
OTHER_BASIC = "jiemi:another-password-that-is-long"
_OTHERS = {SECRET: OTHER, SIGNING_TOKEN: OTHER_TOKEN, BASIC: OTHER_BASIC}

_SIGNATURES = (
    "x-hub-signature-256",
    "x-hub-signature",
    "x-gitea-signature",
    "x-forgejo-signature",
    "x-gogs-signature",
    "x-gitlab-token",
    "x-signature",
    "webhook-signature",
    "authorization",
)


def _verdict(sent: Request, *secrets: str, now: datetime.datetime = NOW) -> Verdict:
    return verify(HOSTS[sent.kind], sent.headers, sent.body, [SensitiveText(each) for each in secrets], now)


@pytest.mark.parametrize("form", FORMS)
def test_a_request_as_its_host_signs_it_is_genuine(form: str) -> None:
    sent = request(form)
    assert _verdict(sent, sent.secret) is Verdict.GENUINE


@pytest.mark.parametrize("form", FORMS)
def test_while_a_secret_is_replaced_the_old_one_and_the_new_one_fit(form: str) -> None:
    sent = request(form)
    other = _OTHERS[sent.secret]
    assert _verdict(sent, other, sent.secret) is Verdict.GENUINE
    assert _verdict(sent, sent.secret, other) is Verdict.GENUINE
    assert _verdict(sent, other) is Verdict.FORGED


@pytest.mark.parametrize("form", FORMS)
def test_a_request_that_lacks_its_signature_is_unsigned_whatever_else_it_has(form: str) -> None:
    sent = request(form).without(*_SIGNATURES)
    assert not is_signed(HOSTS[sent.kind], sent.headers)
    assert _verdict(sent, sent.secret) is Verdict.UNSIGNED


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_genuine_where_there_is_no_secret(form: str) -> None:
    assert _verdict(request(form)) is Verdict.FORGED


@pytest.mark.parametrize("form", FORMS)
def test_a_signature_that_is_there_twice_is_none(form: str) -> None:
    sent = request(form)
    doubled = attrs.evolve(sent, fields=sent.fields + tuple(f for f in sent.fields if f[0].lower() in _SIGNATURES))
    assert _verdict(doubled, sent.secret) is Verdict.UNSIGNED


@pytest.mark.parametrize("form", [each for each in FORMS if each not in ("gitlab token", "azure devops")])
@pytest.mark.parametrize("change", [b" ", b"\n", b"\0", b"x"])
def test_another_body_under_a_genuine_signature_is_forged(form: str, change: bytes) -> None:
    sent = request(form)
    assert _verdict(sent.with_body(sent.body + change), sent.secret) is Verdict.FORGED
    assert _verdict(sent.with_body(change + sent.body), sent.secret) is Verdict.FORGED
    assert _verdict(sent.with_body(sent.body[:-1]), sent.secret) is Verdict.FORGED


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "value",
    ["", "sha256=", "sha1=" + "0" * 40, "sha256=" + "0" * 64, "0" * 64, "v1,", "v1,AAAA", "Basic ", "Basic %%", "é"],
)
def test_what_is_no_signature_of_the_host_is_refused(form: str, value: str) -> None:
    sent = request(form)
    for name, _ in sent.fields:
        if name.lower() in _SIGNATURES:
            sent = sent.with_field(name, value)
    assert _verdict(sent, sent.secret) in (Verdict.UNSIGNED, Verdict.FORGED)


@pytest.mark.parametrize("one", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_a_request_of_one_host_is_genuine_for_another_only_where_both_sign_alike(one: str, other: str) -> None:
    sent = request(one)
    verdict = verify(HOSTS[request(other).kind], sent.headers, sent.body, [SensitiveText(sent.secret)], NOW)
    alike = (
        {"bitbucket", "bitbucket data center"},
        {"gitlab token", "gitlab signing token", "standard webhooks"},
        {"generic sha256", "generic sha512", "cdevents"},
        {"github", "gitea"},  # Gitea sends GitHub's headers too
        {"gitea", "forgejo"},
    )
    if verdict is Verdict.GENUINE:
        assert one == other or any({one, other} <= each for each in alike)


def test_sha1_is_no_signature() -> None:
    sent = request("github").without("x-hub-signature-256")
    assert _verdict(sent, SECRET) is Verdict.UNSIGNED


def test_a_signing_token_that_is_sent_as_a_plain_token_is_forged() -> None:
    sent = request("gitlab token").with_field("X-Gitlab-Token", SIGNING_TOKEN)
    assert _verdict(sent, SIGNING_TOKEN) is Verdict.FORGED


@pytest.mark.parametrize("form", ["gitlab signing token", "standard webhooks"])
@pytest.mark.parametrize("direction", [-1, 1])
def test_a_signed_time_may_be_five_minutes_off_and_no_more(form: str, direction: int) -> None:
    sent = request(form)
    second = datetime.timedelta(seconds=1)
    assert _verdict(sent, SIGNING_TOKEN, now=NOW + direction * WINDOW) is Verdict.GENUINE
    assert _verdict(sent, SIGNING_TOKEN, now=NOW + direction * (WINDOW + second)) is Verdict.STALE


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_the_id_and_the_time_are_signed(name: str) -> None:
    sent = request("standard webhooks").with_field(name, "1")
    assert _verdict(sent, SIGNING_TOKEN) is Verdict.FORGED


@pytest.mark.parametrize("at", ["", "now", "-1", "1e3", "9" * 13, "1764417600.5"])
def test_a_time_that_is_no_number_of_seconds_is_refused(at: str) -> None:
    sent = request("standard webhooks").with_field("webhook-timestamp", at)
    assert _verdict(sent, SIGNING_TOKEN) in (Verdict.FORGED, Verdict.UNSIGNED)


def test_of_several_signatures_one_that_fits_will_do_and_unknown_versions_do_not_count() -> None:
    sent = request("standard webhooks")
    good = dict(sent.fields)["webhook-signature"]
    assert _verdict(sent.with_field("webhook-signature", f"v1a,AAAA v1,BBBB {good}"), SIGNING_TOKEN) is Verdict.GENUINE
    assert _verdict(sent.with_field("webhook-signature", good.replace("v1,", "v2,")), SIGNING_TOKEN) is Verdict.FORGED
    many = " ".join(["v1,AAAA"] * 16)
    assert _verdict(sent.with_field("webhook-signature", f"{many} {good}"), SIGNING_TOKEN) is Verdict.FORGED


def test_openssl_makes_the_same_signature_of_the_signed_text() -> None:
    # printf '%s' 'msg_1.1795953600.{"a":1}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | base64
    fields = dict(standard_fields(SIGNING_TOKEN, b'{"a":1}', NOW, "msg_1"))
    assert fields["webhook-timestamp"] == "1795953600"
    assert fields["webhook-signature"] == "v1,t8siqfsat11cFIA5sF1VKc3VxOJ02KIqOBmYL0gQgS0="


@pytest.mark.parametrize(
    ("kind", "secret", "what"),
    [
        ("github", "", "characters"),
        ("github", "short", "characters"),
        ("github", "x" * 4097, "characters"),
        ("github", "a secret of many characters", "spaces"),
        ("github", "a-secret-of-many-characters\n", "line breaks"),
        ("standard", "a-secret-of-many-characters", "whsec_"),
        ("standard", "whsec_tooshortAAAAAAAA", "24 to 64"),
        ("gitlab", "whsec_this+is%no-base64", "signing token"),
        ("azure-devops", "a-password-without-a-user", "USER:PASSWORD"),
        ("azure-devops", ":a-password-without-a-user", "USER:PASSWORD"),
    ],
)
def test_a_secret_that_would_prove_nothing_is_refused_and_not_quoted(kind: str, secret: str, what: str) -> None:
    found = check_secret(HOSTS[kind], SensitiveText(secret))
    assert what in found
    assert not secret or secret not in found


@pytest.mark.parametrize("form", FORMS)
def test_the_secrets_of_the_tests_are_good_ones(form: str) -> None:
    sent = request(form)
    assert check_secret(HOSTS[sent.kind], SensitiveText(sent.secret)) == ""


def test_an_empty_secret_opens_nothing() -> None:
    sent = request("generic sha256")
    body = b"{}"
    forged = sent.with_body(body).with_field("X-Signature", "sha256=" + hmac.new(b"", body, hashlib.sha256).hexdigest())
    assert _verdict(forged, "") is Verdict.FORGED
    assert _verdict(request("gitlab token").with_field("X-Gitlab-Token", ""), "") is Verdict.UNSIGNED


def test_secrets_beyond_the_bound_do_not_count() -> None:
    sent = request("github")
    assert _verdict(sent, *[OTHER] * MAX_SECRETS, SECRET) is Verdict.FORGED


@given(
    kind=st.sampled_from(sorted(HOSTS)),
    fields=st.lists(st.tuples(st.sampled_from([name.encode() for name in _SIGNATURES]), st.binary(max_size=200))),
    body=st.binary(max_size=200),
)
def test_no_bytes_of_a_stranger_are_genuine_and_none_crash(
    kind: str, fields: list[tuple[bytes, bytes]], body: bytes
) -> None:
    secrets = [SensitiveText(each) for each in (SECRET, SIGNING_TOKEN, BASIC)]
    assert verify(HOSTS[kind], Headers(fields), body, secrets, NOW) in (Verdict.UNSIGNED, Verdict.FORGED)


# --- replays


@pytest.mark.parametrize("form", FORMS)
def test_a_delivery_that_comes_again_is_not_new_and_another_webhook_does_not_know_it(form: str) -> None:
    sent, seen = request(form), Deliveries()
    delivery = delivery_id(HOSTS[sent.kind], sent.headers, sent.body)
    assert seen.is_new("a/w", delivery, NOW)
    assert not seen.is_new("a/w", delivery, NOW + WINDOW)
    assert seen.is_new("b/w", delivery, NOW + WINDOW)


def test_the_same_push_in_another_delivery_is_new() -> None:
    one, other = request("github"), request("github")
    assert one.body == other.body
    host = HOSTS["github"]
    assert delivery_id(host, one.headers, one.body) != delivery_id(host, other.headers, other.body)


def test_deliveries_are_forgotten_after_a_time_and_the_oldest_where_they_are_too_many() -> None:
    seen = Deliveries(most=2)
    second = datetime.timedelta(seconds=1)
    assert [seen.is_new("w", each, NOW) for each in (b"1", b"2", b"3")] == [True] * 3
    assert len(seen) == 2
    assert seen.is_new("w", b"1", NOW)  # it was the oldest
    assert not seen.is_new("w", b"3", NOW + REMEMBERED)
    assert seen.is_new("w", b"3", NOW + REMEMBERED + second)
    assert len(seen) == 1


def test_a_replay_is_remembered_longer_than_its_signature_holds() -> None:
    assert REMEMBERED > 2 * WINDOW
