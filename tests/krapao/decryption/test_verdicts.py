"""What the words of key services mean, as sops 3.13.3 printed them, and which reason a run's outcomes come to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import MESSAGE_LIMIT_CHARACTERS, Failure
from jiemi.krapao.decryption.grpc import UNKNOWN, GrpcStatusError
from jiemi.krapao.decryption.verdicts import Outcome, Verdict, explain, of_status

DENIED, UNREACHABLE, NOT_OPENED = Verdict.DENIED, Verdict.UNREACHABLE, Verdict.NOT_OPENED

ARN = "arn:aws:kms:us-east-1:123456789012:key/bd705d45-ba8a-42d5-804a-507246adc5b7"
_KMS = "failed to decrypt sops data key with AWS KMS: operation error KMS: Decrypt, "
_STS = "failed to assume role 'arn:aws:iam::123456789012:role/opener': operation error STS: AssumeRole, "
_TRIED = "exceeded maximum number of attempts, 3, "
_SENT = "https response error StatusCode: 0, RequestID: , request send failed, "
_USER = "User: arn:aws:iam::123456789012:user/jiemi is not authorized to perform: "
_ID = "RequestID: 9732d83f-7dc3-4206-92af-419f0c03a967, "
_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)

AWS = {
    "wrong secret": (
        DENIED,
        f"{_KMS}https response error StatusCode: 400, {_ID}api error InvalidSignatureException: {_SIGNATURE}",
    ),
    "unknown access key": (
        DENIED,
        f"{_KMS}https response error StatusCode: 400, {_ID}api error UnrecognizedClientException: The security token "
        "included in the request is invalid.",
    ),
    "expired session token": (
        DENIED,
        f"{_KMS}https response error StatusCode: 400, {_ID}api error ExpiredTokenException: The security token "
        "included in the request is expired",
    ),
    "no credentials at all": (
        DENIED,
        f"{_KMS}get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found, operation "
        'error ec2imds: GetMetadata, access disabled to EC2 IMDS via client option, or "AWS_EC2_METADATA_DISABLED" '
        "environment variable",
    ),
    "denied": (
        DENIED,
        f"{_KMS}https response error StatusCode: 400, {_ID}api error AccessDeniedException: {_USER}kms:Decrypt on this "
        "resource because the resource does not exist in this Region, no resource-based policies allow access, or a "
        "resource-based policy explicitly denies access",
    ),
    "role denied": (
        DENIED,
        f"{_STS}https response error StatusCode: 403, {_ID}api error AccessDenied: {_USER}sts:AssumeRole on resource: "
        "arn:aws:iam::123456789012:role/opener",
    ),
    "role, wrong secret": (
        DENIED,
        f"{_STS}https response error StatusCode: 403, {_ID}api error SignatureDoesNotMatch: {_SIGNATURE}",
    ),
    "disabled key": (DENIED, f"{_KMS}https response error StatusCode: 400, {_ID}DisabledException: {ARN} is disabled."),
    "503": (
        UNREACHABLE,
        f"{_KMS}{_TRIED}https response error StatusCode: 503, {_ID}api error ServiceUnavailableException: The service "
        "is unavailable.",
    ),
    "503, one attempt": (
        UNREACHABLE,
        f"{_KMS}exceeded maximum number of attempts, 1, https response error StatusCode: 503, {_ID}api error "
        "ServiceUnavailableException: The service is unavailable.",
    ),
    "STS 503": (
        UNREACHABLE,
        f"{_STS}{_TRIED}https response error StatusCode: 503, {_ID}api error ServiceUnavailable: The service is "
        "unavailable.",
    ),
    "throttled": (
        UNREACHABLE,
        f"{_KMS}{_TRIED}https response error StatusCode: 400, {_ID}api error ThrottlingException: Rate exceeded",
    ),
    "STS throttled": (
        UNREACHABLE,
        f"{_STS}{_TRIED}https response error StatusCode: 400, {_ID}api error Throttling: Rate exceeded",
    ),
    "reset": (
        UNREACHABLE,
        f'{_KMS}{_TRIED}{_SENT}Post "http://127.0.0.1:34783/": read tcp 127.0.0.1:41890->127.0.0.1:34783: read: '
        "connection reset by peer",
    ),
    "refused": (
        UNREACHABLE,
        f'{_KMS}{_TRIED}{_SENT}Post "http://127.0.0.1:41337/": dial tcp 127.0.0.1:41337: connect: connection refused',
    ),
    "STS refused": (
        UNREACHABLE,
        f'{_STS}{_TRIED}{_SENT}Post "http://127.0.0.1:41337/": dial tcp 127.0.0.1:41337: connect: connection refused',
    ),
    "unknown to DNS": (
        UNREACHABLE,
        f'{_KMS}{_SENT}Post "https://kms.us-east-1.amazonaws.com/": dial tcp: lookup kms.us-east-1.amazonaws.com on '
        "127.0.0.1:53: no such host",
    ),
    "unknown key": (
        NOT_OPENED,
        f"{_KMS}https response error StatusCode: 400, {_ID}NotFoundException: Key '{ARN}' does not exist",
    ),
    "wrapped by another key": (NOT_OPENED, f"{_KMS}https response error StatusCode: 400, {_ID}IncorrectKeyException: "),
    "damaged": (NOT_OPENED, f"{_KMS}https response error StatusCode: 400, {_ID}InvalidCiphertextException: "),
    "no ARN": (NOT_OPENED, "no valid ARN found in 'nonsense'"),
    "a profile": (NOT_OPENED, "could not load AWS config: failed to get shared config profile, other"),
}

_API = (
    "failed to decrypt sops data key from Vault transit backend '{0}': Error making API request.\n\n"
    "URL: PUT http://127.0.0.1:33943/v1/{0}\nCode: {1}. Errors:\n\n* {2}"
)
_PUT = "failed to decrypt sops data key from Vault transit backend 'transit/decrypt/k': "

VAULT = {
    "wrong, no or another's token": (DENIED, _API.format("transit/decrypt/k", 403, "permission denied")),
    "sealed": (UNREACHABLE, _API.format("transit/decrypt/k", 503, "Vault is sealed")),
    "throttled": (
        UNREACHABLE,
        _API.format("transit/decrypt/k", 429, 'request path "transit/decrypt/k": rate limit quota exceeded'),
    ),
    "a standby": (UNREACHABLE, _API.format("transit/decrypt/k", 473, "performance standby")),
    "reset": (
        UNREACHABLE,
        f'{_PUT}Put "http://127.0.0.1:33943/v1/transit/decrypt/k": read tcp 127.0.0.1:42092->127.0.0.1:33943: read: '
        "connection reset by peer",
    ),
    "no answer": (UNREACHABLE, f"{_PUT}context deadline exceeded"),
    "refused": (
        UNREACHABLE,
        f'{_PUT}Put "http://127.0.0.1:52369/v1/transit/decrypt/k": dial tcp 127.0.0.1:52369: connect: '
        "connection refused",
    ),
    "unknown to DNS": (
        UNREACHABLE,
        f'{_PUT}Put "https://vault.jiemi.example:8200/v1/transit/decrypt/k": dial tcp: lookup vault.jiemi.example on '
        "127.0.0.1:53: no such host",
    ),
    "authority unknown": (
        UNREACHABLE,
        f'{_PUT}Put "https://127.0.0.1:46845/v1/transit/decrypt/k": tls: failed to verify certificate: x509: '
        "certificate signed by unknown authority",
    ),
    "damaged": (NOT_OPENED, _API.format("transit/decrypt/k", 400, "cipher: message authentication failed")),
    "no prefix": (NOT_OPENED, _API.format("transit/decrypt/k", 400, "invalid ciphertext: no prefix")),
    "unknown mount, another namespace": (
        NOT_OPENED,
        _API.format("other/decrypt/k", 404, 'no handler for route "other/decrypt/k". route entry not found.'),
    ),
    "unknown key": (NOT_OPENED, _API.format("transit/decrypt/nope", 400, "encryption key not found")),
    "allowlist": (NOT_OPENED, "Allowlist does not allow http://127.0.0.1:33943"),
}

_GCP = "failed to decrypt sops data key with GCP KMS key: "
_POST = (
    f'{_GCP}Post "http://127.0.0.1:42623/v1/projects/jiemi-test/locations/global/keyRings/sops/cryptoKeys/k:decrypt?'
    '%24alt=json%3Benum-encoding%3Dint": '
)
_TOKEN = f"{_POST}auth: cannot fetch token: "
_UNAVAILABLE = '{"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}'

GCP = {
    "wrong key of the account": (
        DENIED,
        f'{_TOKEN}400 Response: {{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}}',
    ),
    "wrong access token": (
        DENIED,
        f"{_GCP}googleapi: Error 401: Request had invalid authentication credentials. Expected OAuth 2 access token, "
        "login cookie or other valid authentication credential.",
    ),
    "denied": (
        DENIED,
        f"{_GCP}googleapi: Error 403: Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource "
        "'projects/jiemi-test/locations/global/keyRings/sops/cryptoKeys/k' (or it may not exist).",
    ),
    "credentials of nothing": (
        DENIED,
        "cannot create GCP KMS service: credentials: unsupported unidentified file type",
    ),
    "the login's 503": (UNREACHABLE, f"{_TOKEN}503 Response: {_UNAVAILABLE}"),
    "the login's 429": (UNREACHABLE, f"{_TOKEN}429 Response: quota exceeded"),
    "429": (UNREACHABLE, f"{_GCP}googleapi: Error 429: Quota exceeded for quota metric 'Cryptographic requests'."),
    "no answer": (UNREACHABLE, f"{_GCP}context deadline exceeded"),
    "reset": (UNREACHABLE, f"{_POST}read tcp 127.0.0.1:41258->127.0.0.1:45755: read: connection reset by peer"),
    "refused": (UNREACHABLE, f"{_POST}dial tcp 127.0.0.1:36041: connect: connection refused"),
    "unknown to DNS": (
        UNREACHABLE,
        f"{_POST}dial tcp: lookup cloudkms.googleapis.com on 127.0.0.1:53: no such host",
    ),
    "damaged": (
        NOT_OPENED,
        f"{_GCP}googleapi: Error 400: Decryption failed: verify that 'name' refers to the correct CryptoKey.",
    ),
    "unknown key": (
        NOT_OPENED,
        f"{_GCP}googleapi: Error 404: CryptoKey projects/jiemi-test/locations/global/keyRings/sops/cryptoKeys/kx not "
        "found.",
    ),
    "no resource": (NOT_OPENED, 'cannot create GCP KMS service: no valid resource ID found in "nonsense"'),
}

_AZURE = (
    "failed to decrypt sops data key with Azure Key Vault key "
    "'https://jiemi.vault.azure.net/keys/k/6733a9e2b64cf7a3a9e5936bf1c0ecd9': "
)
_LOGIN = (
    f"{_AZURE}DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\tClientSecretCredential "
)
_ENTRA = (
    f"{_LOGIN}authentication failed.\n\t\tPOST "
    "https://login.microsoftonline.com/7d4383f6-22da-466f-87e3-f35661ea8ab6/oauth2/v2.0/token\n\t\tRESPONSE {0}\n\t\t"
    '{{ "error": "{1}", "error_description": "{2}" }}'
)

AZURE = {
    "wrong secret": (
        DENIED,
        _ENTRA.format("401: 401 Unauthorized", "invalid_client", "AADSTS7000215: Invalid client secret provided."),
    ),
    "unknown application": (
        DENIED,
        _ENTRA.format("400: 400 Bad Request", "unauthorized_client", "AADSTS700016: Application was not found"),
    ),
    "unknown tenant": (DENIED, f"{_LOGIN}isn't configured to acquire tokens for tenant"),
    "denied": (
        DENIED,
        f"{_AZURE}POST https://jiemi.vault.azure.net/keys/k/6733a9e2b64cf7a3a9e5936bf1c0ecd9/decrypt\n"
        "RESPONSE 403: 403 Forbidden\nERROR CODE: Forbidden\n"
        '{ "error": { "code": "Forbidden", "message": "Caller is not authorized to perform action on resource." } }',
    ),
    "unknown to DNS": (
        UNREACHABLE,
        f'{_AZURE}Post "https://jiemi.vault.azure.net/keys/k/6733a9e2b64cf7a3a9e5936bf1c0ecd9/decrypt?api-version='
        '2025-07-01": dial tcp: lookup jiemi.vault.azure.net on 127.0.0.1:53: no such host',
    ),
}

FRAMES = [
    ("aws", f"{_KMS}{_SENT}EOF-less words of a newer library", UNREACHABLE),
    (
        "aws",
        f"{_KMS}{_TRIED}https response error StatusCode: 400, {_ID}api error LimitExceededException: ",
        UNREACHABLE,
    ),
    ("aws", f"{_KMS}get identity: get credentials: static credentials are empty", DENIED),
    ("aws", f"{_KMS}https response error StatusCode: 404, {_ID}api error Other: words", DENIED),
    ("vault", f'{_PUT}Put "https://127.0.0.1:1/v1/transit/decrypt/k": x509: certificate has expired', UNREACHABLE),
    ("vault", f'{_PUT}Put "https://127.0.0.1:1/v1/transit/decrypt/k": EOF', UNREACHABLE),
    ("vault", _API.format("transit/decrypt/k", 418, "connection refused"), NOT_OPENED),
]
"""What was not seen, but has the frame that decides, and no other word that does."""


@pytest.mark.parametrize(("provider", "text", "verdict"), FRAMES)
def test_a_frame_decides_whatever_is_in_it(provider: str, text: str, verdict: Verdict) -> None:
    assert of_status(provider, GrpcStatusError(UNKNOWN, text)) is verdict


CASES = [
    pytest.param(provider, text, verdict, id=f"{provider}: {name}")
    for provider, cases in {"aws": AWS, "vault": VAULT, "gcp": GCP, "azure": AZURE}.items()
    for name, (verdict, text) in cases.items()
]


@pytest.mark.parametrize(("provider", "text", "verdict"), CASES)
def test_what_sops_was_seen_to_print_is_distinguished(provider: str, text: str, verdict: Verdict) -> None:
    assert of_status(provider, GrpcStatusError(UNKNOWN, text)) is verdict


@pytest.mark.parametrize(("provider", "text", "verdict"), CASES)
def test_lines_may_be_joined_and_letters_may_be_of_another_case(provider: str, text: str, verdict: Verdict) -> None:
    for other in (" ".join(text.split()), text.upper()):
        assert of_status(provider, GrpcStatusError(UNKNOWN, other)) is verdict


@given(st.sampled_from(["aws", "gcp", "azure", "vault", "huawei", "age", "pgp", ""]), st.text(), st.integers())
def test_any_words_are_one_of_three_verdicts(provider: str, text: str, code: int) -> None:
    assert of_status(provider, GrpcStatusError(code, text)) in (DENIED, UNREACHABLE, NOT_OPENED)


@pytest.mark.parametrize("provider", ["age", "pgp", "another"])
def test_words_of_a_key_that_asks_nobody_are_no_outage(provider: str) -> None:
    assert of_status(provider, GrpcStatusError(UNKNOWN, "connection refused, StatusCode: 503")) is NOT_OPENED


# What it all comes to


def outcome(verdict: Verdict, *, failure: Failure | None = None, recipient: str = "age age1x") -> Outcome:
    if failure is None and verdict in FAILURES:
        failure = FAILURES[verdict]
    return Outcome("age", recipient, verdict, failure)


FAILURES = {
    Verdict.REFUSED: Failure("DestinationNotAllowed", "the file names the Vault x, which nothing allows"),
    Verdict.UNUSABLE: Failure("KeyInvalid", "provider.age.privateKey, line 1: no age identity"),
}
ORDER = [
    (Verdict.UNREACHABLE, "KeyServiceUnreachable"),
    (Verdict.HOLDER_FAILED, "KeyHolderFailed"),
    (Verdict.REFUSED, "DestinationNotAllowed"),
    (Verdict.DENIED, "KeyServiceDenied"),
    (Verdict.UNUSABLE, "KeyInvalid"),
    (Verdict.TOO_MANY, "LimitExceeded"),
    (Verdict.NOT_OPENED, "KeyMissing"),
]
"""What is told first, where several happened."""


@pytest.mark.parametrize(("verdict", "reason"), [*ORDER, (Verdict.NOT_GIVEN, "KeyMissing")])
def test_each_verdict_alone_has_its_reason(verdict: Verdict, reason: str) -> None:
    assert explain([outcome(verdict)], recipients=(), given=()).failure.reason == reason


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(ORDER)), 2)))
def test_of_two_verdicts_the_one_that_may_pass_or_can_be_changed_is_reported(first: int, second: int) -> None:
    (verdict, reason), (other, _) = ORDER[first], ORDER[second]
    for outcomes in ([outcome(verdict), outcome(other)], [outcome(other), outcome(verdict)]):
        assert explain(outcomes, recipients=(), given=()).failure.reason == reason


def test_the_message_lists_what_became_of_each_recipient_beside_what_was_given() -> None:
    outcomes = [
        outcome(Verdict.NOT_OPENED, recipient="age age1a"),
        outcome(Verdict.NOT_GIVEN, recipient="pgp ABCD"),
    ]
    message = explain(outcomes, recipients=("age not-shown",), given=("age age1b",)).failure.message
    assert message == (
        "no key given opens the file. The file is for: age age1a (not opened by the key given), pgp ABCD (no key of "
        "this kind is given). Given: age age1b"
    )


def test_where_nothing_was_asked_the_files_recipients_are_reported() -> None:
    assert (
        "The file is for: age age1a, pgp B. Given: none"
        in explain([], recipients=("age age1a", "pgp B"), given=()).failure.text
    )
    found = explain([], recipients=(), given=()).failure
    assert found.reason == "KeyMissing"
    assert "nobody that is known" in found.message


def test_a_known_failure_tells_its_own_message_and_that_of_a_key_stands_alone() -> None:
    refused = explain([outcome(Verdict.REFUSED)], recipients=(), given=("age age1b",)).failure
    assert refused.message.startswith(FAILURES[Verdict.REFUSED].message + ". The file is for: ")
    unusable = explain([outcome(Verdict.UNUSABLE)], recipients=(), given=("age age1b",)).failure
    assert unusable == FAILURES[Verdict.UNUSABLE]
    told = Failure("KeyServiceUnreachable", "a key service gave no answer within 20 s")
    assert explain([outcome(Verdict.UNREACHABLE, failure=told)], recipients=(), given=()).failure.text.startswith(
        told.message
    )


def test_the_first_of_several_of_one_verdict_is_reported() -> None:
    first, second = (Failure("DestinationNotAllowed", f"the file names {name}") for name in "ab")
    outcomes = [outcome(Verdict.REFUSED, failure=first), outcome(Verdict.REFUSED, failure=second)]
    assert explain(outcomes, recipients=(), given=()).failure.text.startswith("the file names a.")


def test_a_list_names_five_and_counts_the_rest_and_names_each_once() -> None:
    outcomes = [outcome(NOT_OPENED, recipient=f"age age1{number}") for number in range(9)] * 3
    message = explain(outcomes, recipients=(), given=[f"key{number}" for number in range(6)]).failure.text
    assert message.count("age age1") == 5
    assert (
        "age age14 (not opened by the key given) and 4 more. Given: key0, key1, key2, key3, key4 and 1 more" in message
    )


NAMES = st.text(max_size=300)


@given(
    st.lists(
        st.builds(
            Outcome,
            NAMES,
            NAMES,
            st.sampled_from([each for each in Verdict if each is not Verdict.UNUSABLE]),
            st.none() | st.builds(Failure, st.sampled_from(["KeyInvalid", "DestinationNotAllowed"]), st.text()),
        ),
        max_size=30,
    ),
    st.lists(NAMES, max_size=60),
    st.lists(NAMES, max_size=30),
)
def test_any_outcomes_come_to_one_bounded_line(
    outcomes: list[Outcome], recipients: list[str], given: list[str]
) -> None:
    found = explain(outcomes, recipients=recipients, given=given).failure
    assert len(found.message) <= MESSAGE_LIMIT_CHARACTERS
    assert found.message.isprintable()
    verdicts = {each.verdict for each in outcomes}
    expected = next((reason for verdict, reason in ORDER if verdict in verdicts), "KeyMissing")
    assert found.reason == expected
