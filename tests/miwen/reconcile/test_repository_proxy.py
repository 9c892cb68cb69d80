"""The proxy to a repository's host, as it is read from a Decryptor and the Secrets that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from fakes.kubernetes import FakeCluster, FakeKubernetes
from support.first_version import spec_of, with_value

from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.secret_refs import git_secret_names, key_secret_names
from jiemi.core.errors import JiemiError
from jiemi.miwen.reconcile.git_credentials import git_credentials
from jiemi.miwen.state.loop_state import SecretVersions

AT = "spec.source.repository.proxy"


async def read(proxy: Mapping[str, Any], *, credentials: Any = None, **data: str) -> dict[str, str]:
    """What is given of the credentials of a Decryptor with this proxy, where the Secret "proxy" holds the data."""
    cluster = FakeCluster()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    metadata = {"name": "proxy", "namespace": "default"}
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    repository = {"url": "https://git.example/r.git", "proxy": dict(proxy), "credentials": credentials}
    spec = spec_of(decryptor := read_decryptor(with_value("spec.source.repository", repository)))
    versions = SecretVersions()
    found = attrs.asdict(await git_credentials(decryptor, spec, FakeKubernetes(cluster), versions), recurse=False)
    assert set(versions.read) == git_secret_names(spec)
    assert not set(versions.read) & key_secret_names(spec)
    return {name: value.reveal() for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("proxy", "data", "found"),
    [
        ({"url": "http://p:1"}, {}, {"proxy_url": "http://p:1"}),
        (
            {
                "url": "socks5://p:1",
                "username": {"secretName": "proxy", "key": "u"},
                "password": {"secretName": "proxy", "key": "p"},
            },
            {"u": "me\n", "p": " canary \n"},
            {"proxy_url": "socks5://p:1", "proxy_username": "me", "proxy_password": " canary "},
        ),
        ({"secretName": "proxy"}, {"address": "http://p.example\n"}, {"proxy_url": "http://p.example"}),
        (
            {"secretName": "proxy"},
            {"address": "socks5://p", "username": "me", "password": "canary", "other": "x"},
            {"proxy_url": "socks5://p", "proxy_username": "me", "proxy_password": "canary"},
        ),
    ],
)
async def test_a_proxy_is_read_from_its_values_or_from_a_secret_in_fluxs_form(
    proxy: dict[str, Any], data: dict[str, str], found: dict[str, str]
) -> None:
    assert await read(proxy, **data) == found
    token = {"token": {"literal": "t"}}
    assert await read(proxy, credentials=token, **data) == found | {"token": "t"}


@pytest.mark.parametrize(
    ("proxy", "data", "reason", "says"),
    [
        ({"secretName": "proxy"}, {}, "SecretKeyNotFound", "nothing under the key 'address'; it has no keys at all"),
        ({"secretName": "proxy"}, {"url": "canary"}, "SecretKeyNotFound", "the key 'address'; it has the keys url"),
        (
            {"secretName": "proxy"},
            {"address": "http://p", "username": "me"},
            "SecretKeyNotFound",
            f"Secret default/proxy, which {AT}.secretName names, has nothing under the key 'password'",
        ),
        ({"secretName": "proxy"}, {"address": "http://p", "password": "canary"}, "SecretKeyNotFound", "'username'"),
        ({"secretName": "other"}, {}, "SecretNotFound", f"which {AT}.secretName names"),
        ({"secretName": "proxy"}, {"address": "x" * 70_000}, "CredentialTooLarge", "70000 bytes, of 65536"),
        (
            {"url": "http://p", "username": {"literal": "me"}, "password": {"secretName": "proxy", "key": "gone"}},
            {"u": "canary"},
            "SecretKeyNotFound",
            f"has no key 'gone', which {AT}.password.key names",
        ),
    ],
)
async def test_a_proxy_that_lacks_a_part_is_refused_by_its_field(
    proxy: dict[str, Any], data: dict[str, str], reason: str, says: str
) -> None:
    with pytest.raises(JiemiError) as caught:
        await read(proxy, **data)
    assert caught.value.failure.reason == reason
    assert says in caught.value.failure.text
    assert "canary" not in str(caught.value)
