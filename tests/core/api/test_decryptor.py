"""Decryptors are read from whatever the API server sends, and errors name the path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.first_version import FIRST_VERSION, spec_of, with_value

from jiemi.core.api.decryptor import FINALIZER, read_decryptor
from jiemi.core.api.decryptor_status import (
    Condition,
    DecryptorStatus,
    EncryptionStatus,
    FileStatus,
    InventoryEntry,
    ObjectFailure,
    PlannedObject,
    PlanStatus,
    SecretVersion,
    StatusRecord,
)
from jiemi.core.api.fields import FieldError, structure, unstructure
from jiemi.core.api.spec import DecryptorSpec, credential_values
from jiemi.core.errors import Failure

CANARY = "canary-value"

_NO_COMMIT = "must be a full commit hash in lower case @ spec.source.repository.ref.commit"
_NO_DURATION = "must be a duration such as 90s, 10m or 1h30m"
_DURATIONS = ("interval", "retryInterval", "timeout")
_FLAGS = ("force", "prune", "allowEmpty", "wait", "suspend")


def test_an_object_of_the_first_version_is_read_completely() -> None:
    decryptor = read_decryptor(FIRST_VERSION)
    spec = spec_of(decryptor)
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
        ("spec.source.fileToDecrypt", None, "give fileToDecrypt or files @ spec.source"),
        ("spec.source.fileToDecrypt", ..., "give fileToDecrypt or files @ spec.source"),
        ("spec.source.fileToDecrypt", [CANARY], "must be a string @ spec.source.fileToDecrypt"),
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
            "spec.source.repository.credentials",
            {"bearer": {"literal": CANARY}, "token": {"literal": CANARY}},
            "bearer contradicts token: give one or the other @ spec.source.repository.credentials",
        ),
        (
            "spec.source.repository.credentials",
            {"githubApp": {"appId": {"literal": "1"}, "privateKey": {"literal": CANARY}}, "token": {"literal": CANARY}},
            "githubApp contradicts token: give one or the other @ spec.source.repository.credentials",
        ),
        (
            "spec.source.repository.credentials.githubApp",
            {"appId": {"literal": "1"}},
            "required field missing @ spec.source.repository.credentials.githubApp.privateKey",
        ),
        (
            "spec.source.repository.credentials.githubApp",
            {name: {"literal": "1"} for name in ("appId", "privateKey", "installationId", "installationOwner")},
            (
                "installationId contradicts installationOwner: give one or the other @ "
                "spec.source.repository.credentials.githubApp"
            ),
        ),
        (
            "spec.source.repository.credentials",
            {"secretName": "a", "knownHosts": {"literal": CANARY}},
            "secretName contradicts knownHosts: give one or the other @ spec.source.repository.credentials",
        ),
        (
            "spec.source.repository.credentials",
            {"clientKey": {"literal": CANARY}},
            "give clientCertificate together with clientKey, or neither @ spec.source.repository.credentials",
        ),
        (
            "spec.source.repository.credentials",
            {"passphrase": {"literal": CANARY}},
            "passphrase is for ssh: give that too @ spec.source.repository.credentials",
        ),
        *(
            ("spec.source.repository.proxy", proxy, f"{message} @ spec.source.repository.proxy")
            for proxy, message in (
                ({}, "give either url or secretName"),
                ({"url": "http://p", "secretName": "a"}, "give either url or secretName"),
                (
                    {"url": "http://p", "username": {"literal": CANARY}},
                    "give username together with password, or neither",
                ),
                (
                    {"secretName": "a", "username": {"literal": CANARY}, "password": {"literal": CANARY}},
                    "secretName contradicts username: give one or the other",
                ),
            )
        ),
        (
            "spec.source.repository.ref",
            {"branch": "a", "tag": "b"},
            "branch contradicts tag: give one or the other @ spec.source.repository.ref",
        ),
        (
            "spec.source.repository.ref",
            {"branch": "a", "semver": "*"},
            "branch contradicts semver: give one or the other @ spec.source.repository.ref",
        ),
        (
            "spec.source.repository.ref",
            {"tag": "a", "name": "refs/x"},
            "tag contradicts name: give one or the other @ spec.source.repository.ref",
        ),
        (
            "spec.source.repository.ref",
            {"tag": "a", "semverFilter": "x"},
            "semverFilter is for semver: give that too @ spec.source.repository.ref",
        ),
        (
            "spec.source.repository.ref.semver",
            "1.x.|, !",
            "must be a range of versions, but it can't be read from '!' on @ spec.source.repository.ref.semver",
        ),
        (
            "spec.source.repository.ref.name",
            "main",
            "must be a full name, which begins with refs/ @ spec.source.repository.ref.name",
        ),
        ("spec.source.repository.ref.commit", CANARY, _NO_COMMIT),
        ("spec.source.repository.ref.commit", "a" * 39, _NO_COMMIT),
        ("spec.source.repository.ref.commit", "A" * 40, _NO_COMMIT),
        ("spec.source.repository.ref.commit", "a" * 40 + "\n", _NO_COMMIT),
        ("spec.source.repository.ref.commit", 7, "must be a string @ spec.source.repository.ref.commit"),
        ("spec.source.files", None, "must be a list @ spec.source.files"),
        ("spec.source.files", CANARY, "must be a list @ spec.source.files"),
        ("spec.source.files", ["a", 1], "must be a string @ spec.source.files[1]"),
        ("spec.source.exclude", CANARY, "must be a list @ spec.source.exclude"),
        ("spec.source.exclude", [{}], "must be a string @ spec.source.exclude[0]"),
        ("spec.target", {}, "required field missing @ spec.target.name"),
        ("spec.target", {"name": "a", "kind": CANARY}, "must be Secret or ConfigMap @ spec.target.kind"),
        ("spec.targetNamespace", 7, "must be a string @ spec.targetNamespace"),
        ("spec.commonMetadata", [CANARY], "must be an object @ spec.commonMetadata"),
        ("spec.commonMetadata.labels", {"a": 1}, "must be a string @ spec.commonMetadata.labels[a]"),
        ("spec.commonMetadata.annotations", {"a": None}, "must be a string @ spec.commonMetadata.annotations[a]"),
        ("spec.applyPolicy", CANARY, "must be BestEffort or Atomic @ spec.applyPolicy"),
        ("spec.applyPolicy", None, "must be a string @ spec.applyPolicy"),
        ("spec.conflictPolicy", CANARY, "must be TakeOver or Refuse @ spec.conflictPolicy"),
        ("spec.deletionPolicy", CANARY, "must be Orphan or Delete @ spec.deletionPolicy"),
        ("spec.driftPolicy", CANARY, "must be Correct or Report @ spec.driftPolicy"),
        ("spec.mode", "dryRun", "must be Apply or DryRun @ spec.mode"),
        ("spec.serviceAccountName", [CANARY], "must be a string @ spec.serviceAccountName"),
        ("spec.dependsOn", {"name": "a"}, "must be a list @ spec.dependsOn"),
        ("spec.dependsOn", ["a"], "must be an object @ spec.dependsOn[0]"),
        ("spec.dependsOn", [{"name": "a"}, {"namespace": "b"}], "required field missing @ spec.dependsOn[1].name"),
        ("spec.dependsOn", [{"name": "a", "namespace": 7}], "must be a string @ spec.dependsOn[0].namespace"),
        *((f"spec.{name}", CANARY, f"{_NO_DURATION} @ spec.{name}") for name in _DURATIONS),
        *((f"spec.{name}", "0s", f"{_NO_DURATION} @ spec.{name}") for name in _DURATIONS),
        *((f"spec.{name}", "5", f"{_NO_DURATION} @ spec.{name}") for name in _DURATIONS),
        *((f"spec.{name}", "5m\n", f"{_NO_DURATION} @ spec.{name}") for name in _DURATIONS),
        *((f"spec.{name}", 5, f"must be a string @ spec.{name}") for name in _DURATIONS),
        *((f"spec.{name}", "true", f"must be true or false @ spec.{name}") for name in _FLAGS),
        *((f"spec.{name}", 1, f"must be true or false @ spec.{name}") for name in _FLAGS),
        *((f"spec.{name}", None, f"must be true or false @ spec.{name}") for name in _FLAGS),
    ],
)
def test_a_bad_field_is_named_with_its_path_and_without_its_value(path: str, value: Any, message: str) -> None:
    decryptor = read_decryptor(with_value(path, value))
    assert isinstance(decryptor.spec, Failure)
    assert (decryptor.spec.reason, decryptor.spec.message) == ("InvalidSpec", message)
    assert decryptor.status is not None
    assert CANARY not in str(decryptor.spec)


def test_the_metadata_has_deletion_finalizers_and_the_reconcile_request() -> None:
    meta = read_decryptor(FIRST_VERSION).meta
    assert (meta.deleting, meta.deleting_since, meta.finalizers, meta.reconcile_at) == (False, None, (), None)
    more = {
        "deletionTimestamp": "2026-11-24T03:00:00Z",
        "finalizers": ["example.com/other", FINALIZER],
        "annotations": {"jiemi.cr/reconcile-at": "now", "other": "x"},
    }
    meta = read_decryptor(with_value("metadata", FIRST_VERSION["metadata"] | more)).meta
    assert (meta.deleting, meta.deleting_since) == (True, "2026-11-24T03:00:00Z")
    assert meta.finalizers == ("jiemi.cr/cleanup",)
    assert meta.reconcile_at == "now"


@pytest.mark.parametrize(
    ("annotations", "reconcile_at"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ({"jiemi.cr/reconcile-at": None}, None),
        ({"jiemi.cr/reconcile-at": ""}, ""),
        ({"jiemi.cr/reconcile-at": 7}, "7"),
        ({"jiemi.cr/reconcile-at": "x" * 2_000}, "x" * 1_000),
    ],
)
def test_any_value_of_the_annotation_is_a_reconcile_request(annotations: Any, reconcile_at: str | None) -> None:
    assert read_decryptor(with_value("metadata.annotations", annotations)).meta.reconcile_at == reconcile_at


@pytest.mark.parametrize(
    ("finalizers", "expected"),
    [(None, ()), ({}, ()), (FINALIZER, ()), ([], ()), ([1, "a"], ()), ([1, FINALIZER, "a"], (FINALIZER,))],
)
def test_finalizers_are_a_list_or_none(finalizers: Any, expected: tuple[str, ...]) -> None:
    assert read_decryptor(with_value("metadata.finalizers", finalizers)).meta.finalizers == expected


def test_what_others_put_into_the_metadata_is_not_kept() -> None:
    """It counts for nothing in what a namespace's Decryptors may take, and may be a mebibyte each."""
    many = [f"{number:04}.example.org/{'x' * 60}" for number in range(2_000)]
    metadata = {
        **FIRST_VERSION["metadata"],
        "finalizers": many,
        "annotations": dict.fromkeys(many, ""),
        "labels": dict.fromkeys(many, ""),
        "ownerReferences": [{"name": each} for each in many],
        "managedFields": [{"manager": each} for each in many],
    }
    assert len(repr(read_decryptor(with_value("metadata", metadata)).meta)) < 1_000


@pytest.mark.parametrize("status", [None, {}, {"current": 3}, "text", {"current": {"id": "x"}}])
def test_a_status_that_cannot_be_read_is_no_status(status: Any) -> None:
    assert read_decryptor(with_value("status", status)).status is None


@pytest.mark.parametrize("metadata", [None, {}, {"name": "x"}, {"name": 3, "namespace": "a"}])
def test_an_object_without_metadata_is_refused(metadata: Any) -> None:
    with pytest.raises(FieldError, match="metadata"):
        read_decryptor(with_value("metadata", metadata))


def test_a_status_of_the_first_version_survives_the_way_to_json_and_back() -> None:
    status = read_decryptor(FIRST_VERSION).status
    assert status is not None
    assert structure(unstructure(status), DecryptorStatus, "status") == status


def test_a_status_of_today_survives_the_way_to_json_and_back() -> None:
    status = DecryptorStatus(
        StatusRecord(1, "a" * 40, "f", "2026-11-24T03:00:00Z", "Sync"),
        conditions=(Condition("Ready", "True", "Synced", "…", "2026-11-24T03:00:00Z", 3),),
        encryption=EncryptionStatus(("age a",)),
        inventory=(InventoryEntry("v1", "Secret", "x", "default", "f", 4, ("k",)), InventoryEntry("v1", "Pod", "y")),
        failed_objects=(ObjectFailure("Secret", "x", "ApplyRejected", "…"),),
        files=(FileStatus("f", "1" * 40, None),),
        observed_secrets=(SecretVersion("git", "7"),),
        plan=PlanStatus("a" * 40, 1, 0, 0, 0, (PlannedObject("Create", "Secret", "x", added=("data.k",)),)),
    )
    written = unstructure(status)
    assert read_decryptor(with_value("status", written)).status == status
    assert written["inventory"][0]["keptKeys"] == ["k"]
    assert written["inventory"][1] == {"apiVersion": "v1", "kind": "Pod", "name": "y", "file": ""}
    assert written["plan"]["objects"][0].keys() == {"action", "kind", "name", "file", "added"}


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
            "status.conditions",
            "status.inventory",
            "status.files",
            "status.plan",
            "metadata.annotations",
            "metadata.finalizers",
            "metadata.deletionTimestamp",
            *(f"spec.{name}" for name in ("target", "commonMetadata", "dependsOn", *_DURATIONS, *_FLAGS)),
            *(f"spec.source.{name}" for name in ("files", "exclude", "repository.ref")),
        ]
    ),
    _JSON,
)
def test_no_value_at_any_place_makes_reading_fail(path: str, value: Any) -> None:
    decryptor = read_decryptor(with_value(path, value))
    if isinstance(decryptor.spec, Failure):
        assert decryptor.spec.reason == "InvalidSpec"
        assert " @ spec" in decryptor.spec.message
    else:
        assert structure(unstructure(decryptor.spec), DecryptorSpec, "spec") == decryptor.spec
