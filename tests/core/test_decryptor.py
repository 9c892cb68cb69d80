"""Decryptors are read from whatever the API server sends, and what is wrong is said with its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.decryptor import Decryptor, DecryptorSpec, credential_values, read_decryptor
from jiemi.core.decryptor_status import DecryptorStatus
from jiemi.core.errors import Failure
from jiemi.core.fields import FieldError, structure, unstructure
from jiemi.core.sensitive import SensitiveText

CANARY = "canary-value"

FIRST_VERSION: dict[str, Any] = {
    "apiVersion": "jiemi.cr/v1alpha1",
    "kind": "Decryptor",
    "metadata": {
        "name": "pgp-decryptor",
        "namespace": "default",
        "uid": "u-1",
        "generation": 3,
        "resourceVersion": "77",
    },
    "spec": {
        "provider": {"pgp": {"privateKey": {"secretName": "pgp-secret", "key": "private.rsa"}}},
        "source": {
            "repository": {
                "url": "https://git.example/team/app.git",
                "credentials": {"username": {"literal": "me"}, "token": {"secretName": "git", "key": "token"}},
            },
            "fileToDecrypt": "pgp/secret.enc.yaml",
            "sopsPath": "pgp/.sops.yaml",
        },
    },
    "status": {
        "current": {
            "id": 1,
            "revision": "a888f02e1111beb2c543d729faa5d516ecaa9e12",
            "file_to_decrypt": "pgp/secret.enc.yaml",
            "deployed_at": "2022-03-03T20:37:59.024362965+00:00",
            "status": "Sync",
            "error_message": None,
        },
        "history": None,
    },
}


def _with(path: str, value: Any) -> dict[str, Any]:
    obj = copy.deepcopy(FIRST_VERSION)
    at: Any = obj
    *parents, last = path.split(".")
    for part in parents:
        at = at.setdefault(part, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return obj


def _spec(decryptor: Decryptor) -> DecryptorSpec:
    assert isinstance(decryptor.spec, DecryptorSpec)
    return decryptor.spec


def test_the_first_versions_object_is_read_whole() -> None:
    decryptor = read_decryptor(FIRST_VERSION)
    spec = _spec(decryptor)
    assert spec.provider.named() == ("pgp",)
    assert spec.source.sops_path == "pgp/.sops.yaml"
    assert [at for at, _ in credential_values(spec)] == [
        "spec.provider.pgp.privateKey",
        "spec.source.repository.credentials.username",
        "spec.source.repository.credentials.token",
    ]
    assert decryptor.status is not None
    assert decryptor.status.current.id == 1
    assert decryptor.meta.key == ("default", "pgp-decryptor")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec", ..., "must be an object @ spec"),
        ("spec.provider", ..., "required field missing @ spec.provider"),
        ("spec.provider", {}, "name at least one of age, aws, azure, gcp, huawei, pgp, vault @ spec.provider"),
        (
            "spec.provider",
            {"pgp": None},
            "name at least one of age, aws, azure, gcp, huawei, pgp, vault @ spec.provider",
        ),
        ("spec.source.repository.url", ..., "required field missing @ spec.source.repository.url"),
        ("spec.source.repository.url", 7, "must be a string @ spec.source.repository.url"),
        ("spec.source.fileToDecrypt", None, "must be a string @ spec.source.fileToDecrypt"),
        ("spec.source.repository", [CANARY], "must be an object @ spec.source.repository"),
        (
            "spec.provider.pgp.privateKey",
            {"literal": CANARY, "secretName": "a", "key": "b"},
            "literal contradicts secretName and key: give one or the other @ spec.provider.pgp.privateKey",
        ),
        (
            "spec.provider.pgp.privateKey",
            {"secretName": "a"},
            "give either literal, or secretName together with key @ spec.provider.pgp.privateKey",
        ),
        ("spec.provider.pgp.privateKey", {"literal": 3}, "must be a string @ spec.provider.pgp.privateKey.literal"),
        (
            "spec.source.repository.ref",
            {"branch": "a", "tag": "b"},
            "branch contradicts tag: give one or the other @ spec.source.repository.ref",
        ),
    ],
)
def test_a_bad_field_is_named_with_its_path_and_without_its_value(path: str, value: Any, message: str) -> None:
    decryptor = read_decryptor(_with(path, value))
    assert decryptor.spec == Failure("InvalidSpec", message)
    assert decryptor.status is not None
    assert CANARY not in str(decryptor.spec)


@pytest.mark.parametrize("name", ["aws", "gcp", "vault", "age"])
def test_every_provider_of_the_first_version_is_read(name: str) -> None:
    literal = {"literal": CANARY}
    providers = {
        "aws": {"keyId": literal, "accessKey": literal, "region": literal},
        "gcp": {"serviceAccount": literal},
        "vault": {},
        "age": {"privateKey": literal},
    }
    spec = _spec(read_decryptor(_with("spec.provider", {name: providers[name]})))
    assert spec.provider.named() == (name,)
    assert CANARY not in repr(spec)


def test_explicit_nulls_mean_not_given_as_in_the_first_version() -> None:
    value = {"literal": None, "secretName": "pgp-secret", "key": "private.rsa"}
    spec = _spec(read_decryptor(_with("spec.provider.pgp.privateKey", value)))
    assert spec == _spec(read_decryptor(FIRST_VERSION))


@pytest.mark.parametrize("status", [None, {}, {"current": 3}, "text", {"current": {"id": "x"}}])
def test_a_status_that_cannot_be_read_is_no_status(status: Any) -> None:
    assert read_decryptor(_with("status", status)).status is None


@pytest.mark.parametrize("metadata", [None, {}, {"name": "x"}, {"name": 3, "namespace": "a"}])
def test_an_object_without_metadata_is_refused(metadata: Any) -> None:
    with pytest.raises(FieldError, match="metadata"):
        read_decryptor(_with("metadata", metadata))


def test_status_survives_the_way_to_json_and_back() -> None:
    status = read_decryptor(FIRST_VERSION).status
    assert status is not None
    assert structure(unstructure(status), DecryptorStatus, "status") == status


def test_a_literal_survives_the_way_to_json_and_back() -> None:
    spec = _spec(read_decryptor(_with("spec.provider", {"age": {"privateKey": {"literal": CANARY}}})))
    assert structure(unstructure(spec), DecryptorSpec, "spec") == spec
    assert spec.provider.age is not None
    assert spec.provider.age.private_key.literal == SensitiveText(CANARY)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(
        [
            "spec",
            "spec.provider",
            "spec.provider.pgp",
            "spec.provider.pgp.privateKey",
            "spec.source",
            "spec.source.repository",
            "spec.source.repository.credentials",
            "status",
            "status.current",
            "status.history",
        ]
    ),
    _JSON,
)
def test_no_value_at_any_place_makes_reading_fail(path: str, value: Any) -> None:
    decryptor = read_decryptor(_with(path, value))
    assert isinstance(decryptor.spec, DecryptorSpec | Failure)
