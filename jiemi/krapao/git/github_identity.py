"""A GitHub App, as the credentials of one repository name it: checked, and able to show itself. No I/O.

It shows itself by a JSON Web Token that it signs with its private key (RFC 7519, RS256 of RFC 7518):
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
"""

from __future__ import annotations

import base64
import json
import re

import attrs
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from jiemi.core.addresses import normal_address
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import CREDENTIALS_FIELD, FIELD, Location, Scheme
from jiemi.krapao.git.rsa_keys import MAX_RSA_BITS, fits
from jiemi.rpc.source import GitCredentials

APP_FIELD = f"{CREDENTIALS_FIELD}.githubApp"
BASE_URL_FIELD = f"{APP_FIELD}.baseUrl"
KEY_FIELD = f"{APP_FIELD}.privateKey"

_PUBLIC_HOSTS = ("github.com", "www.github.com", "ssh.github.com")
_PUBLIC_API = "https://api.github.com"
_DATA_RESIDENCY = ".ghe.com"
"""GitHub Enterprise Cloud with data residency: SUBDOMAIN.ghe.com has its API at api.SUBDOMAIN.ghe.com."""

_ISSUED_BEFORE_SECONDS = 60
"""GitHub's own advice, against clocks that differ."""
_LASTS_SECONDS = 9 * 60
"""From now; with the minute before, the ten minutes that GitHub allows."""

_MAX_KEY_CHARACTERS = 16 * 1024
_APP_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
INSTALLATION = re.compile(r"[1-9][0-9]{0,19}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


@attrs.frozen
class App:
    """An App, as the credentials of one repository name it. Everything is checked.

    Attributes:
        id: its id or client id.
        api: URL of the API, without a slash at its end.
        host: of that URL, in lower case, without brackets.
        owner: of the repository.
        repository: its name, without .git.
        installation: its number, or None.
        installation_owner: whose installation is meant where that is None; or None too.
    """

    id: str
    key: rsa.RSAPrivateKey = attrs.field(repr=False)
    api: str
    host: str
    owner: str
    repository: str
    installation: str | None
    installation_owner: str | None


def read_app(location: Location, credentials: GitCredentials) -> App:
    """The App of credentials, for one repository.

    Raises:
        JiemiError: InvalidUrl, InvalidSpec, RepositoryAccessDenied, which name the field to correct.
    """
    app_id = _revealed(credentials.github_app_id)
    if _APP_ID.fullmatch(app_id) is None:
        raise JiemiError(
            "InvalidSpec",
            f"{APP_FIELD}.appId is no id of an App",
            "Put the App id (a number) or the client id (Iv…) there, as the App's settings page shows it.",
        )
    owner, repository = _names(location)
    api, host = _api(location, credentials)
    installation = _optional(credentials.github_app_installation_id)
    if installation is not None and INSTALLATION.fullmatch(installation) is None:
        raise JiemiError(
            "InvalidSpec",
            f"{APP_FIELD}.installationId is no number of an installation",
            "Put the number at the end of the installation's address there, or leave it out.",
        )
    of = _optional(credentials.github_app_installation_owner)
    if of is not None and _NAME.fullmatch(of) is None:
        raise JiemiError(
            "InvalidSpec",
            f"{APP_FIELD}.installationOwner is no name of an organization or user",
            "Put the name there as it is in the addresses of its repositories, or leave it out.",
        )
    return App(app_id, _key(credentials), api, host, owner, repository, installation, of)


def _revealed(text: SensitiveText | None) -> str:
    return "" if text is None else text.reveal().strip()


def _optional(text: SensitiveText | None) -> str | None:
    return None if text is None else text.reveal().strip()


def _names(location: Location) -> tuple[str, str]:
    parts = location.path.strip("/").split("/")
    if len(parts) == 2:
        owner, repository = parts[0], parts[1].removesuffix(".git")
        if _NAME.fullmatch(owner) and _NAME.fullmatch(repository) and repository not in (".", ".."):
            return owner, repository
    raise JiemiError(
        "InvalidUrl",
        f"{FIELD} is no address of a repository of GitHub, and {APP_FIELD} is for these alone",
        "Write it as https://HOST/OWNER/REPOSITORY.",
    )


def _api(location: Location, credentials: GitCredentials) -> tuple[str, str]:
    """The API's URL and its host. It must be the repository's own: the token is sent to that one."""
    repository_host = location.host.removesuffix(".")
    if credentials.github_app_base_url is None:
        if repository_host in _PUBLIC_HOSTS:
            return _PUBLIC_API, "api.github.com"
        if repository_host.endswith(_DATA_RESIDENCY):
            return f"https://api.{repository_host}", f"api.{repository_host}"
        raise JiemiError(
            "InvalidSpec",
            f"{BASE_URL_FIELD} is missing: {location.host} is not github.com",
            f"Put the URL of its API there, https://{location.host}/api/v3 for a GitHub Enterprise Server.",
        )
    url = normal_address(credentials.github_app_base_url.reveal())
    if url is None or not url.startswith("https://"):
        raise JiemiError(
            "InvalidSpec",
            f"{BASE_URL_FIELD} is no https:// URL of an API",
            "Write it as https://HOST/api/v3, without user, query or fragment.",
        )
    host = _host_of(url)
    own = {repository_host, f"api.{repository_host}"}
    if host not in own and not (repository_host in _PUBLIC_HOSTS and host == "api.github.com"):
        raise JiemiError(
            "InvalidSpec",
            f"{BASE_URL_FIELD} names another host than {FIELD}, which would get the other's tokens",
            f"Write the API's URL with the host {location.host}, or correct {FIELD}.",
        )
    return url, host


def _host_of(url: str) -> str:
    """Of a normal address."""
    authority = url.removeprefix("https://").split("/")[0]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].lower().removesuffix(".")


def _key(credentials: GitCredentials) -> rsa.RSAPrivateKey:
    text = _revealed(credentials.github_app_private_key).replace("\r\n", "\n") + "\n"
    found: object = None
    if len(text) <= _MAX_KEY_CHARACTERS and text.startswith("-----BEGIN ") and "ENCRYPTED" not in text:
        try:
            found = serialization.load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
        except Exception:  # noqa: BLE001 - the bytes lead it to whatever they like; nothing of its text is worth showing
            found = None
    if isinstance(found, rsa.RSAPrivateKey) and 2_048 <= found.key_size <= MAX_RSA_BITS and fits(found):
        return found
    raise JiemiError(
        "RepositoryAccessDenied",
        f"{KEY_FIELD} is no RSA private key (PEM, without a passphrase) that can be read",
        "Put the whole .pem file there that the App's settings page generated, with its line breaks.",
    )


def signed_token(app: App, now: float) -> SensitiveText:
    """The JSON Web Token that shows the App.

    Args:
        now: seconds since the epoch.
    """
    claims = {"iat": int(now) - _ISSUED_BEFORE_SECONDS, "exp": int(now) + _LASTS_SECONDS, "iss": app.id}
    signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    try:
        signature = app.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except Exception:  # noqa: BLE001 - of a key whose numbers are no primes
        raise JiemiError(
            "RepositoryAccessDenied", f"{KEY_FIELD} can't sign: the key is damaged", "Generate another one."
        ) from None
    return SensitiveText(f"{signed}.{_base64url(signature)}")


def _encoded(value: object) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def require_https(location: Location) -> None:
    """Raises JiemiError InvalidUrl for a repository that is not reached over https."""
    if location.scheme is not Scheme.HTTPS:
        raise JiemiError(
            "InvalidUrl",
            f"{FIELD} is no https:// URL, and {APP_FIELD} is for these alone",
            "Use the repository's https:// URL, or take githubApp away.",
        )
