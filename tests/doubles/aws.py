"""AWS KMS and STS: moto's server (https://docs.getmoto.org), behind a front that says who may ask.

moto keeps the keys, wraps data keys and hands out the credentials of roles; it takes any credentials. So the front
verifies the signature of each request (Signature Version 4,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html), which roles there are and
who may use a key, and answers a refusal as AWS does
(https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html).

Left out: policies, grants and aliases as a means of access; external ids, session policies and MFA for a role; clock
skew and replay of signatures; all regions but those that keys are created in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import secrets
import subprocess
import urllib.parse
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from doubles.moto_environment import moto_python
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, serving

ACCOUNT = "123456789012"
REGION = "us-east-1"

_KMS = "TrentService."
_KEY_ID_BYTES = 36
_END_SECONDS = 30
_ANSWER_SECONDS = 30
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key_id>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request"
    r", ?SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_ISSUED = re.compile(
    r"<AccessKeyId>(?P<key_id>[^<]+)</AccessKeyId>.*?<SecretAccessKey>(?P<secret>[^<]+)</SecretAccessKey>"
    r".*?<SessionToken>(?P<token>[^<]+)</SessionToken>",
    re.DOTALL,
)


@attrs.frozen
class Principal:
    """Who asks, with what it proves that by."""

    arn: str
    key_id: str
    secret: str = attrs.field(repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)


class Aws(Double):
    """An account with one user.

    Attributes:
        endpoint: URL of KMS and STS.
        user: who may use all keys that are not kept for others, and take every role.
        deny_roles: nobody may take a role.
        askers: the ARN of who signed each request in order; None where the signature was not good.
    """

    def __init__(self, moto_port: int) -> None:
        super().__init__()
        self.endpoint = ""
        self.deny_roles = False
        self.askers: list[str | None] = []
        self._moto_port = moto_port
        self._principals: dict[str, Principal] = {}
        self._roles: set[str] = set()
        self._web_identity_tokens: dict[str, str] = {}
        self._kept: dict[str, frozenset[str]] = {}
        self._disabled: set[str] = set()
        self.user = self.create_user("jiemi")

    def environment(self, principal: Principal | None = None) -> dict[str, str]:
        """What a sops process needs, as the user or whoever is given."""
        principal = principal or self.user
        found = {
            "AWS_ACCESS_KEY_ID": principal.key_id,
            "AWS_SECRET_ACCESS_KEY": principal.secret,
            "AWS_ENDPOINT_URL_KMS": self.endpoint,
            "AWS_ENDPOINT_URL_STS": self.endpoint,
            "AWS_REGION": REGION,
            # Or the libraries ask 169.254.169.254 for what they miss.
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if principal.session_token is not None:
            found["AWS_SESSION_TOKEN"] = principal.session_token
        return found

    def wrong_environment(self) -> dict[str, str]:
        """The same with a secret that is not the access key's."""
        return self.environment(attrs.evolve(self.user, secret="x" * 40))

    def unknown_environment(self) -> dict[str, str]:
        """The same with an access key that nobody issued."""
        return self.environment(attrs.evolve(self.user, key_id="AKIANOBODYISSUEDTHIS"))

    def create_user(self, name: str) -> Principal:
        """Makes another user, who may use all keys that are not kept for others."""
        user = Principal(
            f"arn:aws:iam::{ACCOUNT}:user/{name}", f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30)
        )
        self._principals[user.key_id] = user
        return user

    def create_role(self, name: str, *, web_identity_token: str | None = None) -> str:
        """Makes a role that every user may take, and whoever has that token; returns its ARN."""
        role = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        self._roles.add(role)
        if web_identity_token is not None:
            self._web_identity_tokens[web_identity_token] = role
        return role

    def create_key(self, *, region: str = REGION, only: Collection[str] = ()) -> str:
        """Makes a key; returns its ARN, as `sops --kms` wants it.

        Args:
            only: ARNs of the users and roles that it is kept for; empty for all.
        """
        arn = str(self._ask_moto("CreateKey", {}, region)["KeyMetadata"]["Arn"])
        self._kept[arn] = frozenset(only)
        return arn

    def disable_key(self, arn: str) -> None:
        """Keeps a key from being used. moto remembers that, but lets it be used all the same."""
        self._disabled.add(arn)

    def throttle_answer(self, request: Request) -> Answer:
        return (
            _kms_error("ThrottlingException", "Rate exceeded")
            if _is_kms(request)
            else _sts_error(400, "Throttling", "Rate exceeded")
        )

    def unavailable_answer(self, request: Request) -> Answer:
        if _is_kms(request):
            return _kms_error("ServiceUnavailableException", "The service is unavailable.", status=503)
        return _sts_error(503, "ServiceUnavailable", "The service is unavailable.")

    def answer(self, request: Request) -> Answer:
        if request.form().get("Action") == "AssumeRoleWithWebIdentity":
            self.askers.append(None)
            return self._take_role_by_token(request)
        try:
            principal = self._authenticate(request)
        except _Refused as refused:
            self.askers.append(None)
            return refused.answer(request)
        self.askers.append(principal.arn)
        return self._use_key(request, principal) if _is_kms(request) else self._take_role(request, principal)

    def _authenticate(self, request: Request) -> Principal:
        stated = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if stated is None:
            raise _Refused(
                "MissingAuthenticationTokenException", "MissingAuthenticationToken", "Missing Authentication Token"
            )
        principal = self._principals.get(stated["key_id"])
        if principal is None or request.headers.get("x-amz-security-token") != principal.session_token:
            raise _Refused(
                "UnrecognizedClientException",
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            )
        if not hmac.compare_digest(_signature(request, stated, principal.secret), stated["signature"]):
            raise _Refused(
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.",
            )
        return principal

    def _use_key(self, request: Request, principal: Principal) -> Answer:
        action = request.headers["x-amz-target"].removeprefix(_KMS)
        key = str(request.json().get("KeyId"))
        only = self._kept.get(key, frozenset[str]())
        if self.deny or (only and principal.arn not in only and _role_of(principal.arn) not in only):
            return _kms_error(
                "AccessDeniedException",
                f"User: {principal.arn} is not authorized to perform: kms:{action} on this resource because the "
                "resource does not exist in this Region, no resource-based policies allow access, or a resource-based "
                "policy explicitly denies access",
            )
        if key in self._disabled:
            return _kms_error("DisabledException", f"{key} is disabled.")
        wrapped_by = _wrapped_by(request)
        if action == "Decrypt" and key in self._kept and not key.endswith(f"/{wrapped_by}"):
            # moto says AccessDeniedException for both.
            if any(other.endswith(f"/{wrapped_by}") for other in self._kept):
                text = "The key ID in the request does not identify a CMK that can perform this operation."
                return _kms_error("IncorrectKeyException", text)
            return _kms_error("InvalidCiphertextException", "")
        return self._forward(request)

    def _take_role(self, request: Request, principal: Principal) -> Answer:
        asked = request.form()
        role = asked.get("RoleArn", "")
        if self.deny_roles or role not in self._roles:
            return _sts_error(
                403,
                "AccessDenied",
                f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {role}",
            )
        return self._issue(request, role)

    def _take_role_by_token(self, request: Request) -> Answer:
        asked = request.form()
        role = asked.get("RoleArn", "")
        if asked.get("WebIdentityToken") not in self._web_identity_tokens:
            return _sts_error(
                400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"
            )
        if self.deny_roles or self._web_identity_tokens[asked["WebIdentityToken"]] != role:
            return _sts_error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        return self._issue(request, role)

    def _issue(self, request: Request, role: str) -> Answer:
        answer = self._forward(request)
        issued = _ISSUED.search(answer.body.decode())
        if issued is not None:
            name = role.rpartition("/")[2]
            session = request.form().get("RoleSessionName", "")
            self._principals[issued["key_id"]] = Principal(
                f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}",
                issued["key_id"],
                issued["secret"],
                issued["token"],
            )
        return answer

    def _ask_moto(self, action: str, asked: object, region: str) -> dict[str, dict[str, object]]:
        headers = {
            "x-amz-target": _KMS + action,
            "content-type": "application/x-amz-json-1.1",
            # moto takes the service and the region from here.
            "authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/{region}/kms/aws4_request, SignedHeaders=x",
        }
        answer = self._forward(Request("POST", LOOPBACK, "/", {}, headers, json.dumps(asked).encode()))
        assert answer.status == 200, answer
        return json.loads(answer.body) if answer.body else {}

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(LOOPBACK, self._moto_port, timeout=_ANSWER_SECONDS)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_CONNECTION}
            connection.request(request.method, request.path, request.body, headers)
            response = connection.getresponse()
            kept = tuple((name, value) for name, value in response.getheaders() if name.lower() in _KEPT)
            return Answer(response.status, response.read(), kept)
        finally:
            connection.close()


@contextmanager
def open_aws() -> Iterator[Aws]:
    """Plays AWS KMS and STS on loopback; the first use on a machine installs moto."""
    process = subprocess.Popen(
        [moto_python(), Path(__file__).with_name("moto_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().decode().strip()
        assert port, "moto's server did not start; its error is above"
        aws = Aws(int(port))
        with serving(aws) as front:
            aws.endpoint = f"http://{LOOPBACK}:{front}"
            yield aws
    finally:
        process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


_OF_THE_CONNECTION = frozenset({"connection", "content-length", "transfer-encoding", "accept-encoding"})
_KEPT = frozenset({"content-type", "x-amzn-requestid"})


class _Refused(Exception):
    """A request that isn't who it says it is; KMS and STS have different words for each."""

    def __init__(self, kms_code: str, sts_code: str, text: str) -> None:
        super().__init__(text)
        self._kms_code, self._sts_code, self._text = kms_code, sts_code, text

    def answer(self, request: Request) -> Answer:
        return (
            _kms_error(self._kms_code, self._text) if _is_kms(request) else _sts_error(403, self._sts_code, self._text)
        )


def _is_kms(request: Request) -> bool:
    return request.headers.get("x-amz-target", "").startswith(_KMS)


def _wrapped_by(request: Request) -> str:
    """The id of the key that a ciphertext of moto's names in its beginning."""
    try:
        return base64.b64decode(str(request.json().get("CiphertextBlob", "")))[:_KEY_ID_BYTES].decode()
    except ValueError:
        return ""


def _kms_error(code: str, text: str, *, status: int = 400) -> Answer:
    return json_answer(status, {"__type": code, "message": text}, ("x-amzn-RequestId", str(uuid.uuid4())))


def _sts_error(status: int, code: str, text: str) -> Answer:
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return Answer(status, body.encode(), (("Content-Type", "text/xml"),))


def _role_of(assumed: str) -> str:
    """The role's ARN, of one that took it."""
    return re.sub(r":sts::(\d+):assumed-role/([^/]+)/.*", r":iam::\1:role/\2", assumed)


def _signature(request: Request, stated: re.Match[str], secret: str) -> str:
    headers = stated["headers"].split(";")
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "&".join(
                f"{urllib.parse.quote(name, '-_.~')}={urllib.parse.quote(value, '-_.~')}"
                for name, value in sorted(request.query.items())
            ),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in headers),
            "",
            stated["headers"],
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    scope = f"{stated['date']}/{stated['region']}/{stated['service']}/aws4_request"
    moment = request.headers.get("x-amz-date", "")
    signed = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), signed):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
