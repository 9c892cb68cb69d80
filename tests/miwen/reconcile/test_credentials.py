"""The credentials of a repository, as they are read from a Decryptor and the Secrets that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from fakes.kubernetes import FakeCluster, FakeKubernetes
from support.first_version import spec_of, with_value

from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.secret_refs import git_secret_names
from jiemi.core.errors import JiemiError
from jiemi.miwen.reconcile.git_credentials import git_credentials
from jiemi.miwen.state.loop_state import SecretVersions
from jiemi.rpc.source import GitCredentials

AT = "spec.source.repository.credentials"


async def read(
    credentials: Mapping[str, Any], *, url: str = "https://git.example/r.git", **data: str
) -> GitCredentials:
    """The credentials of a Decryptor with these, where the Secret "git" holds the data."""
    cluster = FakeCluster()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    metadata = {"name": "git", "namespace": "default"}
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    decryptor = read_decryptor(with_value("spec.source.repository", {"url": url, "credentials": dict(credentials)}))
    spec = spec_of(decryptor)
    versions = SecretVersions()
    found = await git_credentials(decryptor, spec, FakeKubernetes(cluster), versions)
    assert set(versions.read) <= git_secret_names(spec)
    return found


def shown(credentials: GitCredentials) -> dict[str, str]:
    """What is given of them."""
    values = attrs.asdict(credentials, recurse=False)
    return {name: value.reveal() for name, value in values.items() if value is not None}


async def fails(reason: str, credentials: Mapping[str, Any], **rest: str) -> str:
    """The text of what is wrong with them."""
    with pytest.raises(JiemiError) as caught:
        await read(credentials, **rest)
    assert caught.value.failure.reason == reason, str(caught.value)
    assert "canary" not in str(caught.value)
    return caught.value.failure.text


async def test_a_passphrase_keeps_its_spaces_and_loses_the_line_break_at_its_end() -> None:
    given = {name: {"secretName": "git", "key": name} for name in ("ssh", "passphrase")}
    found = await read(given, url="git@git.example:r", ssh="canary\n", passphrase=" canary \r\n")
    assert shown(found) == {"ssh": "canary\n", "passphrase": " canary "}


async def test_a_bearer_token_is_read_without_the_line_break_at_its_end() -> None:
    found = await read({"bearer": {"secretName": "git", "key": "token"}}, token="canary\n")
    assert shown(found) == {"bearer": "canary"}
    assert "no key 'other'" in await fails("SecretKeyNotFound", {"bearer": {"secretName": "git", "key": "other"}})


async def test_a_github_app_is_read_value_by_value() -> None:
    app = {
        "appId": {"secretName": "git", "key": "id"},
        "privateKey": {"secretName": "git", "key": "pem"},
        "installationOwner": {"literal": "acme"},
    }
    found = await read({"githubApp": app}, id="1\n", pem="canary\n")
    assert shown(found) == {
        "github_app_id": "1",
        "github_app_private_key": "canary\n",
        "github_app_installation_owner": "acme",
    }
    del app["installationOwner"]
    missing = await fails("SecretKeyNotFound", {"githubApp": app}, id="1")
    assert "no key 'pem', which spec.source.repository.credentials.githubApp.privateKey.key names" in missing


HTTPS, HTTP, SSH = "https://git.example/r.git", "http://git.example/r.git", "git@git.example:r.git"
WHOLE = {"secretName": "git"}


@pytest.mark.parametrize(
    ("url", "data", "found"),
    [
        (HTTPS, {"username": "me\n", "password": "canary\n"}, {"username": "me", "token": "canary"}),
        (HTTP, {"username": "me", "password": "canary", "identity": "x"}, {"username": "me", "token": "canary"}),
        (HTTPS, {"bearerToken": "canary\n", "known_hosts": "x"}, {"bearer": "canary"}),
        (HTTPS, {"ca.crt": "A\n"}, {"ca_bundle": "A\n"}),
        (HTTPS, {"caFile": "A\n", "ca.crt": "A\n"}, {"ca_bundle": "A\n"}),
        (HTTP, {"bearerToken": "canary", "ca.crt": "A", "tls.crt": "x"}, {"bearer": "canary"}),
        # As cert-manager writes it for an authority that everybody trusts.
        (HTTPS, {"tls.crt": "C\n", "tls.key": "K\n", "ca.crt": ""}, {"client_certificate": "C\n", "client_key": "K\n"}),
        (HTTPS, {"certFile": "C", "keyFile": "K"}, {"client_certificate": "C", "client_key": "K"}),
        (
            HTTPS,
            {"username": "me", "password": "p", "tls.crt": "C", "tls.key": "K", "caFile": "A"},
            {"username": "me", "token": "p", "client_certificate": "C", "client_key": "K", "ca_bundle": "A"},
        ),
        (
            SSH,
            {"identity": "K\n", "identity.pub": "P", "known_hosts": "H\n", "username": "me", "bearerToken": "x"},
            {"ssh": "K\n", "known_hosts": "H\n"},
        ),
        (SSH, {"identity": "K", "password": " canary \n"}, {"ssh": "K", "passphrase": " canary "}),
        (
            HTTPS,
            {
                "githubAppID": "1\n",
                "githubAppPrivateKey": "canary\n",
                "githubAppInstallationID": "2\n",
                "githubAppBaseURL": "https://git.example/api/v3\n",
                "ca.crt": "A\n",
            },
            {
                "github_app_id": "1",
                "github_app_private_key": "canary\n",
                "github_app_installation_id": "2",
                "github_app_base_url": "https://git.example/api/v3",
                "ca_bundle": "A\n",
            },
        ),
        (
            HTTPS,
            {"githubAppID": "1", "githubAppPrivateKey": "canary", "githubAppInstallationOwner": "acme"},
            {"github_app_id": "1", "github_app_private_key": "canary", "github_app_installation_owner": "acme"},
        ),
    ],
)
async def test_a_whole_secret_in_fluxs_form_is_read_by_the_urls_scheme(
    url: str, data: dict[str, str], found: dict[str, str]
) -> None:
    assert shown(await read(WHOLE, url=url, **data)) == found


@pytest.mark.parametrize(
    ("url", "data", "reason", "says"),
    [
        (HTTPS, {"username": "me", "password": ""}, "SecretKeyNotFound", "has the key 'username' without 'password'"),
        (HTTPS, {"password": "canary"}, "SecretKeyNotFound", "has the key 'password' without 'username'"),
        (HTTPS, {"tls.crt": "canary"}, "SecretKeyNotFound", "has the key 'tls.crt' without 'tls.key'"),
        (HTTPS, {"keyFile": "canary"}, "SecretKeyNotFound", "has the key 'keyFile' without 'tls.crt'"),
        (SSH, {"known_hosts": "canary"}, "SecretKeyNotFound", "has the key 'known_hosts' without 'identity'"),
        (SSH, {"password": "canary", "x": "y"}, "SecretKeyNotFound", "without 'identity'; it has the keys password, x"),
        (HTTPS, {"identity": "canary"}, "SecretKeyNotFound", "has none of the keys for a https:// URL (username, "),
        (SSH, {"username": "canary"}, "SecretKeyNotFound", "has none of the keys for a ssh:// URL (identity, "),
        (HTTPS, {}, "SecretKeyNotFound", "it has no keys at all"),
        (HTTP, {"githubAppID": "1", "githubAppPrivateKey": "canary"}, "InvalidSpec", "is for a GitHub App, which"),
        (SSH, {"githubAppID": "1", "githubAppPrivateKey": "canary"}, "InvalidSpec", "is for a GitHub App, which"),
        (HTTPS, {"githubAppID": "1"}, "SecretKeyNotFound", "'githubAppID' without 'githubAppPrivateKey'"),
        (HTTPS, {"githubAppPrivateKey": "canary"}, "SecretKeyNotFound", "'githubAppPrivateKey' without 'githubAppID'"),
        (HTTPS, {"githubAppInstallationID": "1"}, "SecretKeyNotFound", "'githubAppInstallationID' without"),
        (
            HTTPS,
            {
                "githubAppID": "1",
                "githubAppPrivateKey": "canary",
                "githubAppInstallationID": "2",
                "githubAppInstallationOwner": "acme",
            },
            "InvalidSpec",
            "has the keys 'githubAppInstallationID' and 'githubAppInstallationOwner', which contradict",
        ),
        (
            HTTPS,
            {"githubAppID": "1", "githubAppPrivateKey": "canary", "username": "me", "password": "canary"},
            "InvalidSpec",
            "has the keys 'githubAppID' and 'username', which contradict",
        ),
        ("git://git.example/r", {"username": "canary"}, "InvalidSpec", "is of no use for a git:// URL"),
        (
            HTTPS,
            {"bearerToken": "canary", "username": "me", "password": "canary"},
            "InvalidSpec",
            "has the keys 'bearerToken' and 'username', which contradict each other",
        ),
        (HTTPS, {"ca.crt": "canary", "caFile": "canary2"}, "InvalidSpec", "has the keys 'ca.crt' and 'caFile', which"),
        (
            HTTPS,
            {"password": "x" * 70_000},
            "CredentialTooLarge",
            "70000 bytes, of 65536 at most, are in key 'password'",
        ),
        ("https://", {"password": "canary"}, "InvalidUrl", "spec.source.repository.url"),
    ],
)
async def test_a_whole_secret_that_lacks_a_part_or_contradicts_itself_is_refused_by_its_keys(
    url: str, data: dict[str, str], reason: str, says: str
) -> None:
    message = await fails(reason, WHOLE, url=url, **data)
    assert says in message
    assert reason == "InvalidUrl" or "Secret default/git, which spec.source.repository.credentials" in message


async def test_a_whole_secret_that_is_not_there_is_named() -> None:
    message = await fails("SecretNotFound", {"secretName": "other"})
    assert "no Secret default/other, which spec.source.repository.credentials.secretName names" in message
