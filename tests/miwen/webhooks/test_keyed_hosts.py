"""Webhooks of hosts that sign by a key of their own: which are genuine, and what a flood of others makes Miwen ask."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from support.webhooks.requests import NOW, Request
from support.webhooks.signed import (
    CERTIFICATE_URL,
    HOUR,
    SNS,
    TOPIC,
    Issuer,
    Sns,
    codecommit_event,
    codecommit_trigger,
    encoded,
    oidc_request,
    sns_request,
)

from jiemi.core.names import NamespacedName
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.oidc import ALGORITHMS, OidcTrust, fitting_keys, keys_url, read_token
from jiemi.core.webhooks.repository import repository_key
from jiemi.core.webhooks.sns import read_message
from jiemi.core.webhooks.verdict import Verdict
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.guarded_get import GetError
from jiemi.miwen.webhooks.intake import Intake, Moved
from jiemi.miwen.webhooks.receiver import Delivery, Outcome
from jiemi.miwen.webhooks.signatures import is_signed_by_key
from jiemi.miwen.webhooks.signing_keys import AGAIN_SECONDS, FAILED_SECONDS, FRESH_SECONDS, SigningKeys

KEY = ("team-a", "app")
OTHER = "arn:aws:sns:eu-west-1:111122223333:others"
TRUST = OidcTrust("https://issuer.example", "jiemi", "repo:acme/*:ref:refs/heads/*")


@attrs.define
class World:
    """An intake, and the hosts that it asks for keys."""

    sns: Sns = attrs.field(factory=Sns)
    issuer: Issuer = attrs.field(factory=Issuer)
    now: datetime.datetime = NOW
    pages: dict[str, bytes] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    moved: list[Moved] = attrs.field(factory=list)
    webhooks: dict[NamespacedName, Webhook] = attrs.field(factory=dict)
    seconds: float = 0
    intake: Intake = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.pages = {
            CERTIFICATE_URL: self.sns.certificate(),
            f"{self.issuer.url}/.well-known/openid-configuration": self.issuer.description(),
            f"{self.issuer.url}/keys": self.issuer.keys(),
        }
        verifier = Verifier(self.webhooks, lambda: self.now, SigningKeys(self._get))
        self.intake = Intake(verifier, "jiemi", self._on_moved)

    def _on_moved(self, moved: Moved) -> int:
        self.moved.append(moved)
        return 1

    async def _get(self, url: str, *, max_bytes: int) -> bytes:
        self.asked.append(url)
        await trio.sleep(self.seconds)
        if url.startswith(f"{SNS}/?Action="):
            return b"<ConfirmSubscriptionResponse/>"
        if url not in self.pages:
            raise GetError("it answers 404")
        return self.pages[url]

    async def send(self, sent: Request) -> Outcome:
        delivery = Delivery(KEY, b"/webhooks/team-a/app", sent.headers)
        return self.intake.objection(delivery) or await self.intake.take(delivery, sent.body)


def of_topic(*topics: str) -> World:
    world = World()
    world.webhooks[KEY] = Webhook(KEY, "codecommit", tuple(map(SensitiveText, topics or (TOPIC,))))
    return world


def of_issuer(trust: OidcTrust = TRUST) -> World:
    world = World()
    world.webhooks[KEY] = Webhook(KEY, "oidc", (), trust=trust)
    return world


# --- SNS


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("write", [codecommit_trigger, codecommit_event])
async def test_a_push_in_codecommit_is_genuine_and_names_its_repository(
    version: str, write: Callable[[str, str], str]
) -> None:
    world = of_topic(OTHER, TOPIC)
    for ref in ("refs/heads/main", "refs/tags/v1"):
        sent = sns_request(world.sns.message(write("deploy", ref), version=version, Subject="A push"))
        assert await world.send(sent) is Outcome.PUSH
        assert await world.send(sent) is Outcome.DUPLICATE
    assert [sorted(moved.refs) for moved in world.moved] == [["refs/heads/main"], ["refs/tags/v1"]]
    for url in (
        "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/deploy",
        "ssh://APKAEXAMPLE@git-codecommit.eu-west-1.amazonaws.com/v1/repos/deploy",
    ):
        assert repository_key(url) in world.moved[0].repositories
    assert world.asked == [CERTIFICATE_URL]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("no JSON", Outcome.OTHER_EVENT),
        ("[]", Outcome.OTHER_EVENT),
        (json.dumps({"Records": [{"eventSourceARN": "arn:aws:s3:::bucket"}]}), Outcome.OTHER_EVENT),
        (codecommit_event("deploy", "refs/heads/main", "commentOnCommitCreated"), Outcome.OTHER_EVENT),
        (codecommit_event("deploy", "main"), Outcome.PUSH),  # any ref may have moved
    ],
)
async def test_what_else_is_written_to_the_topic_is_no_push(text: str, outcome: Outcome) -> None:
    world = of_topic()
    assert await world.send(sns_request(world.sns.message(text))) is outcome


@pytest.mark.parametrize(
    "changed",
    [
        {
            "SigningCertURL": "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0a0a0a0a0a0a0a0a.pem"
        },
        {"SigningCertURL": CERTIFICATE_URL.replace("eu-west-1", "us-east-1")},
        {"SigningCertURL": CERTIFICATE_URL.replace("https://", "http://")},
        {"SigningCertURL": CERTIFICATE_URL.replace("https://", "https://me@")},
        {"SigningCertURL": CERTIFICATE_URL.replace(".com/", ".com:8443/")},
        {"SigningCertURL": CERTIFICATE_URL.replace(".com/", ".com/x/")},
        {"SigningCertURL": CERTIFICATE_URL.replace(".com/", ".com/../")},
        {"SigningCertURL": CERTIFICATE_URL + "?x"},
        {"SigningCertURL": CERTIFICATE_URL + "#x"},
        {"SigningCertURL": CERTIFICATE_URL.replace("/Simple", "\\@evil.example/Simple")},
        {"SigningCertURL": f"{SNS}/evil.pem"},
        {"SigningCertURL": None},
        {"SigningCertURL": ["x"]},
        {"SignatureVersion": "3"},
        {"SignatureVersion": None},
        {"TopicArn": OTHER},
        {"Timestamp": 7},
        {"Type": "Other"},
    ],
)
async def test_a_message_that_is_not_of_the_topic_or_names_another_certificate_makes_nobody_ask(
    changed: dict[str, Any],
) -> None:
    world = of_topic()
    text = codecommit_trigger("deploy", "refs/heads/main")
    message = world.sns.message(text) if changed.keys() <= {"Type"} else world.sns.message(text, **changed)
    assert await world.send(sns_request(message | changed)) is Outcome.FORGED
    assert world.asked == []


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "Signature"])
async def test_a_message_that_was_changed_after_it_was_signed_is_forged(name: str) -> None:
    world = of_topic()
    message = world.sns.message(codecommit_trigger("deploy", "refs/heads/main"), Subject="x")
    changes = {
        "Timestamp": (NOW + datetime.timedelta(seconds=1)).isoformat(),
        "Signature": base64.b64encode(bytes(256)).decode(),
    }
    message[name] = changes.get(name, "changed")
    assert await world.send(sns_request(message)) is Outcome.FORGED
    assert world.moved == []


async def test_a_message_that_another_key_signed_or_with_an_old_certificate_is_forged() -> None:
    world = of_topic()
    text = codecommit_trigger("deploy", "refs/heads/main")
    assert await world.send(sns_request(Sns().message(text))) is Outcome.FORGED
    for certificate in (world.sns.certificate(begins=NOW - 48 * HOUR, days=1), b"canary", b""):
        old = of_topic()
        old.sns = world.sns
        old.pages[CERTIFICATE_URL] = certificate
        assert await old.send(sns_request(world.sns.message(text))) is Outcome.FORGED


@pytest.mark.parametrize(
    ("at", "outcome"),
    [
        (NOW - datetime.timedelta(minutes=59), Outcome.PUSH),
        (NOW - datetime.timedelta(minutes=61), Outcome.STALE),
        (NOW + datetime.timedelta(minutes=6), Outcome.STALE),
    ],
)
async def test_an_old_message_is_stale(at: datetime.datetime, outcome: Outcome) -> None:
    world = of_topic()
    message = world.sns.message(codecommit_trigger("deploy", "refs/heads/main"), Timestamp=at.isoformat())
    assert await world.send(sns_request(message)) is outcome
    for text in ("yesterday", at.replace(tzinfo=None).isoformat()):
        message = world.sns.message("x", Timestamp=text)
        assert await world.send(sns_request(message)) is Outcome.STALE


async def test_a_request_without_snss_headers_or_of_another_topic_is_refused_by_its_head() -> None:
    world = of_topic()
    sent = sns_request(world.sns.message("x"))
    for name in ("x-amz-sns-message-type", "x-amz-sns-topic-arn"):
        assert world.intake.objection(Delivery(KEY, b"", sent.without(name).headers)) is Outcome.UNSIGNED
    other = sent.with_field("x-amz-sns-topic-arn", OTHER)
    assert world.intake.objection(Delivery(KEY, b"", other.headers)) is Outcome.FORGED


async def test_a_subscription_to_the_topic_is_confirmed_once() -> None:
    world = of_topic()
    message = world.sns.message("You have chosen to subscribe", kind="SubscriptionConfirmation")
    assert await world.send(sns_request(message)) is Outcome.CONFIRMED
    assert await world.send(sns_request(message)) is Outcome.DUPLICATE
    assert world.asked == [CERTIFICATE_URL, message["SubscribeURL"]]
    assert await world.send(sns_request(world.sns.message("x", kind="UnsubscribeConfirmation"))) is Outcome.OTHER_EVENT
    assert len(world.asked) == 2


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        f"{SNS}/?Action=DeleteTopic&TopicArn={TOPIC}",
        f"{SNS}/?Action=ConfirmSubscription&TopicArn={OTHER}&Token=x",
        f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=other",
        f"{SNS}/x?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x",
        f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x&X=y",
        f"http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=x",
        "",
        7,
    ],
)
async def test_a_subscription_is_confirmed_at_its_topics_own_address_alone(url: Any) -> None:
    world = of_topic()
    message = world.sns.message("x", kind="SubscriptionConfirmation", SubscribeURL=url, Token="x")
    assert await world.send(sns_request(message)) is Outcome.FORGED
    assert world.asked == []


async def test_a_subscription_that_could_not_be_confirmed_is_when_it_comes_again() -> None:
    world = of_topic()
    message = world.sns.message("x", kind="SubscriptionConfirmation")
    real = world.intake.verifier.keys._get

    async def fails(url: str, *, max_bytes: int) -> bytes:
        if url == CERTIFICATE_URL:
            return await real(url, max_bytes=max_bytes)
        raise GetError("it answers 500")

    world.intake.verifier.keys._get = fails
    assert await world.send(sns_request(message)) is Outcome.NO_KEY
    world.intake.verifier.keys._get = real
    assert await world.send(sns_request(message)) is Outcome.CONFIRMED


_VALUES = st.none() | st.integers() | st.text(max_size=40) | st.lists(st.text(max_size=5), max_size=2)
_NAMES = st.sampled_from(
    ["Type", "MessageId", "TopicArn", "Message", "Timestamp", "SigningCertURL", "Signature", "SubscribeURL", "Token"]
)
_MESSAGE = Sns().message("x", kind="SubscriptionConfirmation")
_CHANGED = st.dictionaries(_NAMES, _VALUES).map(lambda changed: json.dumps(_MESSAGE | changed).encode())


@given(st.binary(max_size=100) | _CHANGED)
def test_any_body_is_a_message_or_is_refused(body: bytes) -> None:
    found = read_message(body, {TOPIC}, NOW)
    assert isinstance(found, Verdict) or found.certificate_url.startswith(f"{SNS}/SimpleNotificationService-")


# --- OpenID


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_the_issuer_is_genuine_by_each_algorithm_that_is_taken(algorithm: str) -> None:
    world = of_issuer()
    for header in ({}, {"kid": None}):
        assert await world.send(oidc_request(world.issuer.token(algorithm, header=header))) is Outcome.PUSH
    assert world.asked == [f"{TRUST.issuer}/.well-known/openid-configuration", f"{TRUST.issuer}/keys"]
    assert await world.send(oidc_request(world.issuer.token(algorithm, aud=["x", "jiemi"]))) is Outcome.PUSH
    sent = oidc_request(world.issuer.token(algorithm))
    assert [await world.send(sent), await world.send(sent)] == [Outcome.PUSH, Outcome.DUPLICATE]
    stranger = Issuer()
    assert await world.send(oidc_request(stranger.token(algorithm))) is Outcome.FORGED


_AT = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("claims", "outcome"),
    [
        ({"iss": "https://issuer.example/"}, Outcome.FORGED),
        ({"iss": "https://evil.example"}, Outcome.FORGED),
        ({"iss": None}, Outcome.FORGED),
        ({"aud": "other"}, Outcome.FORGED),
        ({"aud": None}, Outcome.FORGED),
        ({"aud": {"jiemi": 1}}, Outcome.FORGED),
        ({"aud": []}, Outcome.FORGED),
        ({"sub": "repo:evil/app:ref:refs/heads/main"}, Outcome.FORGED),
        ({"sub": "repo:acme/app:ref:refs/heads/a/b"}, Outcome.FORGED),
        ({"sub": None}, Outcome.FORGED),
        ({"exp": None}, Outcome.FORGED),
        ({"exp": True}, Outcome.FORGED),
        ({"exp": float("inf")}, Outcome.FORGED),
        ({"exp": "9999999999"}, Outcome.FORGED),
        ({"iat": None}, Outcome.FORGED),
        ({"nbf": "x"}, Outcome.FORGED),
        ({"exp": _AT + 25 * 3600}, Outcome.FORGED),
        ({"exp": _AT - 61, "iat": _AT - 300, "nbf": _AT - 300}, Outcome.STALE),
        ({"iat": _AT + 61, "nbf": _AT}, Outcome.STALE),
        ({"nbf": _AT + 61}, Outcome.STALE),
    ],
)
async def test_a_token_for_others_or_of_another_time_makes_nobody_ask(claims: dict[str, Any], outcome: Outcome) -> None:
    world = of_issuer()
    assert await world.send(oidc_request(world.issuer.token(**claims))) is outcome
    assert world.asked == []


def _tampered(token: str, **header: Any) -> str:
    head, rest = token.split(".", 1)
    made = json.loads(base64.urlsafe_b64decode(head + "==")) | header
    return f"{encoded(json.dumps(made).encode())}.{rest}"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS1"},
        {"alg": ["RS256"]},
        {"alg": None},
        {"crit": ["exp"]},
        {"kid": 7},
        {"kid": "x" * 600},
    ],
)
async def test_a_token_whose_header_is_not_taken_makes_nobody_ask(header: dict[str, Any]) -> None:
    world = of_issuer()
    token = _tampered(world.issuer.token(), **header)
    for each in (token, token.rpartition(".")[0] + "."):
        assert await world.send(oidc_request(each)) is Outcome.FORGED
    assert world.asked == []


@pytest.mark.parametrize(
    "given", ["", "Basic x", "Bearer", "Bearer a.b", "Bearer a.b.c.d", "Bearer ..", "Bearer !.!.!"]
)
async def test_what_is_no_token_is_refused(given: str) -> None:
    world = of_issuer()
    sent = oidc_request("x").with_field("Authorization", given)
    assert await world.send(sent) in (Outcome.UNSIGNED, Outcome.FORGED)
    assert world.asked == []


async def test_a_key_in_the_token_itself_is_not_taken() -> None:
    world, stranger = of_issuer(), Issuer()
    [key, *_] = json.loads(stranger.keys())["keys"]
    for header in ({"jwk": key, "kid": None}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example"}):
        assert await world.send(oidc_request(stranger.token(header=header))) is Outcome.FORGED
    assert not any("evil" in url for url in world.asked)


@pytest.mark.parametrize(
    "page",
    [
        b"canary",
        b"[]",
        b"{}",
        b'{"issuer": "https://evil.example", "jwks_uri": "https://issuer.example/keys"}',
        b'{"issuer": "https://issuer.example", "jwks_uri": "http://issuer.example/keys"}',
        b'{"issuer": "https://issuer.example", "jwks_uri": 7}',
    ],
)
async def test_an_issuer_that_describes_itself_otherwise_has_no_keys(page: bytes) -> None:
    world = of_issuer()
    world.pages[f"{TRUST.issuer}/.well-known/openid-configuration"] = page
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.NO_KEY
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"key_ops": ["sign"]},
        {"kty": "oct", "k": "eHg"},
        {"n": "AQAB"},
        {"n": 7},
        {"e": "AQ"},
        {"e": "Ag"},
        {"n": "!"},
        {"n": "A" * 4_000},
    ],
)
async def test_a_key_that_is_for_something_else_or_none_fits_no_token(changed: dict[str, Any]) -> None:
    world = of_issuer()
    [key, *rest] = json.loads(world.issuer.keys())["keys"]
    world.pages[f"{TRUST.issuer}/keys"] = json.dumps({"keys": ["x", None, key | changed, *rest]}).encode()
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.FORGED


_MEMBERS = st.sampled_from(["keys", "kty", "kid", "n", "e", "crv", "x", "y", "issuer", "jwks_uri"])
_DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_MEMBERS, inner),
)


@given(st.binary(max_size=60) | _DOCUMENTS.map(lambda value: json.dumps(value).encode()))
def test_any_key_set_and_description_is_read(data: bytes) -> None:
    for algorithm in ALGORITHMS:
        token = read_token(Headers(((b"authorization", b"Bearer " + _TOKENS[algorithm].encode()),)), TRUST, NOW)
        assert not isinstance(token, Verdict)
        assert not any(is_signed_by_key(token, key) for key in fitting_keys(data, token))
    assert keys_url(data, TRUST.issuer) is None or b"https://" in data


_TOKENS = {algorithm: Issuer().token(algorithm, header={"kid": None}) for algorithm in ALGORITHMS}


_CLAIMS = st.dictionaries(
    st.sampled_from(["alg", "kid", "iss", "aud", "sub", "exp", "iat", "nbf", "crit"]),
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2),
).map(lambda value: json.dumps(value).encode())


@given(st.lists(st.binary(max_size=40) | _CLAIMS, min_size=3, max_size=3))
def test_any_token_is_read_or_refused(parts: list[bytes]) -> None:
    value = "Bearer " + ".".join(map(encoded, parts))
    assert isinstance(read_token(Headers(((b"authorization", value.encode()),)), TRUST, NOW), Verdict)


# --- floods


async def test_a_flood_of_forged_tokens_makes_miwen_ask_the_issuer_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, stranger = of_issuer(), Issuer()
    world.seconds = 1
    outcomes: list[Outcome] = []

    async def send(token: str) -> None:
        outcomes.append(await world.send(oidc_request(token)))

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(send, stranger.token(header={"kid": f"key-{number}"}))
        nursery.start_soon(send, world.issuer.token())
    assert outcomes.count(Outcome.FORGED) == 200
    assert outcomes.count(Outcome.PUSH) == 1
    assert len(world.asked) == 2  # its description and its keys
    world.asked.clear()
    # A key that the set lacks makes it be read again, once in some minutes.
    for _ in range(20):
        await trio.sleep(AGAIN_SECONDS / 10)
        await world.send(oidc_request(stranger.token(header={"kid": "gone"})))
    assert len(world.asked) == 4
    await trio.sleep(FRESH_SECONDS + 1)
    world.asked.clear()
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.PUSH
    assert len(world.asked) == 2


async def test_a_new_key_is_taken_up_and_old_keys_last_while_the_issuer_is_down(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = of_issuer()
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.PUSH
    await trio.sleep(FRESH_SECONDS + 1)
    keys = world.pages.pop(f"{TRUST.issuer}/keys")
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.PUSH
    asked = len(world.asked)
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.PUSH
    assert len(world.asked) == asked, "a failure counts for a while"
    await trio.sleep(FAILED_SECONDS + 1)
    renewed = Issuer()
    world.pages[f"{TRUST.issuer}/keys"] = renewed.keys()
    assert await world.send(oidc_request(renewed.token())) is Outcome.PUSH
    assert await world.send(oidc_request(world.issuer.token())) is Outcome.FORGED
    assert keys != renewed.keys()


async def test_a_flood_of_messages_with_certificates_that_are_not_there_is_paced_and_harms_no_other_namespace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = of_topic()
    for number in range(300):
        url = f"{SNS}/SimpleNotificationService-{number:032x}.pem"
        message = world.sns.message("x", SigningCertURL=url)
        assert await world.send(sns_request(message)) is Outcome.NO_KEY
        await trio.sleep(0.01)
    assert len(world.asked) <= 11
    other = ("team-b", "app")
    world.webhooks[other] = Webhook(other, "codecommit", (SensitiveText(TOPIC),))
    sent = sns_request(world.sns.message(codecommit_trigger("deploy", "refs/heads/main")))
    assert await world.intake.take(Delivery(other, b"", sent.headers), sent.body) is Outcome.PUSH
    assert len(world.intake.verifier.keys._kept) <= 256
