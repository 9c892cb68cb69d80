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
from jiemi.miwen.reconcile.credentials import git_credentials
from jiemi.miwen.state.loop_state import SecretVersions
from jiemi.rpc.contract import GitCredentials

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
