"""GitHub as an App meets it, written from its documents: an API that gives out tokens, and git that takes these alone.

It has the form of a GitHub Enterprise Server: https://HOST/api/v3 beside https://HOST/OWNER/REPOSITORY. Behind git is
the real `git http-backend`. What an App may do is checked as GitHub says that it does:
https://docs.github.com/en/rest/apps/apps and
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import base64
import datetime
import email.utils
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from doubles.jwt import BadTokenError, Token

from jiemi.demo.git_server import GitServer, serve_git

API = "/api/v3"

Answered = tuple[int, dict[str, str], bytes]


@attrs.define
class Installation:
    """Of the App, at one owner."""

    owner: str
    repositories: tuple[str, ...]
    is_organization: bool = True
    is_suspended: bool = False
    permissions: tuple[str, ...] = ("contents", "metadata")


@attrs.define
class Issued:
    """A token that was given out."""

    repository: str
    expires_at: float


@attrs.define
class GitHub:
    """What the stand-in knows. Its attributes may be changed at any time.

    Attributes:
        clock_ahead_seconds: how much its clock is ahead of this machine's.
        answer: what every request to the API gets in place of its answer, or None.
        asked: the paths of the API that were asked for.
        bodies: of the requests for tokens.
        seen: every Authorization header that came.
    """

    key: rsa.RSAPrivateKey = attrs.field(factory=lambda: rsa.generate_private_key(65537, 2048))
    app_id: str = "4711"
    installations: dict[int, Installation] = attrs.field(factory=dict)
    lifetime_seconds: float = 3600
    clock_ahead_seconds: float = 0
    answer: Answered | None = None
    tokens: dict[str, Issued] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    bodies: list[dict[str, Any]] = attrs.field(factory=list)
    seen: list[str] = attrs.field(factory=list)
    server: GitServer = attrs.field(init=False)

    def pem(self) -> str:
        """The App's private key, in the form that GitHub gives out."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()

    @property
    def base_url(self) -> str:
        return self.server.url + API

    def now(self) -> float:
        return time.time() + self.clock_ahead_seconds

    def create(self, owner: str, repository: str) -> str:
        """An empty repository; gives its URL."""
        (self.server.root / owner).mkdir(exist_ok=True)
        return self.server.create(f"{owner}/{repository}.git")

    def intercept(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answered | None:
        """Answer a request, or let it pass to git."""
        authorization = headers.get("Authorization", "")
        self.seen.append(authorization)
        if not path.startswith(API + "/"):
            return None if self._may_read(path, authorization) else (401, {"WWW-Authenticate": "Basic"}, b"")
        self.asked.append(path.removeprefix(API))
        status, more, answer = self.answer or self._of_api(method, path.removeprefix(API), authorization, body)
        return status, {"Date": email.utils.formatdate(self.now(), usegmt=True), **more}, answer

    def _may_read(self, path: str, authorization: str) -> bool:
        kind, _, encoded = authorization.partition(" ")
        if kind != "Basic":
            return False
        user, _, token = base64.b64decode(encoded).decode().partition(":")
        issued = self.tokens.get(token)
        return (
            user == "x-access-token"
            and issued is not None
            and issued.expires_at > self.now()
            and path.startswith(f"/{issued.repository}.git/")
        )

    def _of_api(self, method: str, path: str, authorization: str, body: bytes) -> Answered:
        refusal = self._refusal(authorization)
        if refusal is not None:
            return _said(401, refusal)
        match method, path.strip("/").split("/"):
            case "GET", [("orgs" | "users") as kind, owner, "installation"]:
                return self._found(
                    each
                    for each in self.installations.items()
                    if each[1].owner == owner and each[1].is_organization == (kind == "orgs")
                )
            case "GET", ["repos", owner, name, "installation"]:
                return self._found(
                    each
                    for each in self.installations.items()
                    if each[1].owner == owner and name in each[1].repositories
                )
            case "POST", ["app", "installations", number, "access_tokens"]:
                return self._token(int(number), json.loads(body))
        return _said(404, "Not Found")

    def _refusal(self, authorization: str) -> str | None:
        try:
            token = Token.parse(authorization.removeprefix("Bearer "))
            token.verify(self.key.public_key())
        except (BadTokenError, ValueError):
            return "A JSON web token could not be decoded"
        claims, now = token.claims, self.now()
        if token.header.get("alg") != "RS256" or claims["iss"] != self.app_id:
            return "Integration not found"
        if claims["iat"] > now:
            return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        if claims["exp"] < now:
            return "'Expiration time' claim ('exp') must be a numeric value representing the future time"
        if claims["exp"] > now + 600:
            return "'Expiration time' claim ('exp') is too far in the future"
        return None

    @staticmethod
    def _found(which: Iterator[tuple[int, Installation]]) -> Answered:
        for number, installation in which:
            return 200, {}, json.dumps({"id": number, "account": {"login": installation.owner}}).encode()
        return _said(404, "Not Found")

    def _token(self, number: int, wanted: dict[str, Any]) -> Answered:
        self.bodies.append(wanted)
        installation = self.installations.get(number)
        if installation is None:
            return _said(404, "Not Found")
        if installation.is_suspended:
            return _said(403, "This installation has been suspended")
        if not set(wanted["permissions"]) <= set(installation.permissions):
            return _said(422, "The permissions requested are not granted to this installation.")
        [name] = wanted["repositories"]
        if name not in installation.repositories:
            return _said(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
        token = f"ghs_{number}_{secrets.token_hex(120)}"
        until = self.now() + self.lifetime_seconds
        self.tokens[token] = Issued(f"{installation.owner}/{name}", until)
        shown = datetime.datetime.fromtimestamp(until, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 201, {}, json.dumps({"token": token, "expires_at": shown, "permissions": wanted["permissions"]}).encode()


def _said(status: int, message: str) -> Answered:
    return status, {}, json.dumps({"message": message, "documentation_url": "https://docs.github.com/rest"}).encode()


@asynccontextmanager
async def serve_github(root: Path, tls: ssl.SSLContext) -> AsyncIterator[GitHub]:
    """A stand-in with an App that is installed nowhere yet. `root` exists."""
    github = GitHub()
    async with serve_git(root, tls=tls) as server:
        server.intercept = github.intercept
        github.server = server
        yield github


@contextmanager
def answering(github: GitHub, answer: Answered) -> Iterator[None]:
    """While the context lasts, the API answers every request in one way."""
    github.answer = answer
    try:
        yield
    finally:
        github.answer = None
