"""The Secrets that a spec names, apart by what they are for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.fields import structure
from jiemi.core.api.secret_refs import git_secret_names, key_secret_names, secret_names, verify_secret_names
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import Failure


def value(name: str) -> dict[str, str]:
    return {"secretName": name, "key": "k"}


def spec(provider: dict[str, Any], credentials: dict[str, Any] | None = None, **more: Any) -> DecryptorSpec:
    repository = {"url": "https://git.example/app.git", "credentials": credentials}
    return structure(
        {"provider": provider, "source": {"repository": repository, "fileToDecrypt": "f.yaml"}, **more},
        DecryptorSpec,
        "spec",
    )


def test_secrets_of_the_host_and_of_the_keys_are_distinguished() -> None:
    found = spec(
        {"pgp": {"privateKey": value("pgp"), "passphrase": value("both")}},
        {"username": value("git"), "token": value("both"), "ssh": value("ssh"), "knownHosts": value("hosts")},
    )
    assert git_secret_names(found) == {"git", "both", "ssh", "hosts"}
    assert key_secret_names(found) == {"pgp", "both"}
    assert secret_names(found) == {"git", "both", "ssh", "hosts", "pgp"}


def test_a_whole_secret_is_one_of_the_host() -> None:
    found = spec({"pgp": {"privateKey": value("pgp")}}, {"secretName": "git"})
    assert git_secret_names(found) == {"git"}
    assert key_secret_names(found) == {"pgp"}
    assert secret_names(found) == {"git", "pgp"}


def test_a_secret_that_is_deep_in_a_provider_is_named_too() -> None:
    role = {"roleId": value("role"), "secretId": value("secret")}
    assert secret_names(spec({"vault": {"appRole": role, "caBundle": value("ca")}})) == {"role", "secret", "ca"}


def test_each_of_several_providers_counts() -> None:
    found = spec({"age": {"privateKey": value("a")}, "gcp": {"serviceAccount": value("b"), "allowedKeys": ["c"]}})
    assert key_secret_names(found) == {"a", "b"}


def test_neither_literals_nor_a_target_name_secrets() -> None:
    found = spec(
        {"age": {"privateKey": {"literal": "x"}}},
        {"token": {"literal": "y"}},
        target={"name": "a-target"},
        serviceAccountName="an-account",
        dependsOn=[{"name": "a-decryptor"}],
    )
    assert secret_names(found) == frozenset()


@pytest.mark.parametrize("credentials", [None, {}])
def test_a_public_repository_names_none(credentials: dict[str, Any] | None) -> None:
    assert git_secret_names(spec({"vault": {}}, credentials)) == frozenset()


def test_a_spec_that_can_not_be_read_names_none() -> None:
    failure = Failure("InvalidSpec", "spec.provider")
    assert (git_secret_names(failure), key_secret_names(failure), secret_names(failure)) == (frozenset(),) * 3


_FIELDS = st.dictionaries(st.sampled_from(["username", "token", "ssh", "knownHosts"]), st.sampled_from("abc"))


@given(_FIELDS, st.sampled_from("abc"))
def test_the_names_are_those_of_both(credentials: dict[str, str], key: str) -> None:
    found = spec({"age": {"privateKey": value(key)}}, {field: value(name) for field, name in credentials.items()})
    assert secret_names(found) == git_secret_names(found) | key_secret_names(found) == {*credentials.values(), key}


def test_the_secret_with_the_signers_keys_is_neither_of_the_host_nor_of_the_files() -> None:
    repository = {"url": "https://git.example/app.git", "verify": {"provider": "ssh", "secretName": "signers"}}
    source = {"repository": repository, "fileToDecrypt": "f.yaml"}
    found = structure({"provider": {"age": {"privateKey": value("age")}}, "source": source}, DecryptorSpec, "spec")
    assert verify_secret_names(found) == {"signers"}
    assert git_secret_names(found) == frozenset()
    assert key_secret_names(found) == {"age"}
    assert secret_names(found) == {"age", "signers"}
