"""Decryptors are read from whatever the API server sends, and what is wrong is said with its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor import (
    FINALIZER,
    CommonMetadata,
    Decryptor,
    DecryptorSpec,
    Dependency,
    SourceSpec,
    credential_values,
    read_decryptor,
)
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
from jiemi.core.errors import Failure
from jiemi.core.sensitive import SensitiveText

CANARY = "canary-value"

_NO_COMMIT = "must be a full commit hash in lower case @ spec.source.repository.ref.commit"
_NO_DURATION = "must be a duration such as 90s, 10m or 1h30m"
_DURATIONS = ("interval", "retryInterval", "timeout")
_FLAGS = ("force", "prune", "allowEmpty", "wait", "suspend")

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
            "spec.source.repository.ref",
            {"branch": "a", "tag": "b"},
            "branch contradicts tag: give one or the other @ spec.source.repository.ref",
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
    decryptor = read_decryptor(_with(path, value))
    assert isinstance(decryptor.spec, Failure)
    assert (decryptor.spec.reason, decryptor.spec.message) == ("InvalidSpec", message)
    assert decryptor.status is not None
    assert CANARY not in str(decryptor.spec)


@pytest.mark.parametrize("path", ["apps/*.yaml", "**", "a/**/b.yaml", "x*"])
def test_a_glob_as_the_one_file_is_sent_to_where_globs_belong(path: str) -> None:
    decryptor = read_decryptor(_with("spec.source.fileToDecrypt", path))
    assert isinstance(decryptor.spec, Failure)
    assert decryptor.spec.text == (
        "must be the path of one file, not a glob @ spec.source.fileToDecrypt. Put the glob into spec.source.files."
    )


def test_what_the_first_version_had_not_is_off_by_default() -> None:
    spec = _spec(read_decryptor(FIRST_VERSION))
    assert (spec.apply_policy, spec.conflict_policy) == ("BestEffort", "TakeOver")
    assert (spec.deletion_policy, spec.drift_policy, spec.mode) == ("Orphan", "Correct", "Apply")
    assert (spec.force, spec.prune, spec.allow_empty, spec.wait, spec.suspend) == (False,) * 5
    assert (spec.target_namespace, spec.common_metadata, spec.service_account_name) == (None, None, None)
    assert (spec.interval, spec.retry_interval, spec.timeout, spec.depends_on) == (None, None, None, ())
    assert (spec.source.files, spec.source.exclude, spec.target) == ((), (), None)


def test_every_field_that_was_added_since_is_read() -> None:
    obj = _with(
        "spec",
        FIRST_VERSION["spec"]
        | {
            "targetNamespace": "team",
            "commonMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "applyPolicy": "Atomic",
            "conflictPolicy": "Refuse",
            "force": True,
            "prune": True,
            "allowEmpty": True,
            "deletionPolicy": "Delete",
            "driftPolicy": "Report",
            "mode": "DryRun",
            "wait": True,
            "serviceAccountName": "deployer",
            "dependsOn": [{"name": "x"}, {"name": "y", "namespace": "z"}],
            "suspend": True,
            "interval": "10m",
            "retryInterval": "30s",
            "timeout": "1h30m",
        },
    )
    spec = _spec(read_decryptor(obj))
    assert spec.target_namespace == "team"
    assert spec.common_metadata == CommonMetadata({"a": "b"}, {"c": "d"})
    assert (spec.apply_policy, spec.conflict_policy, spec.mode) == ("Atomic", "Refuse", "DryRun")
    assert (spec.deletion_policy, spec.drift_policy, spec.service_account_name) == ("Delete", "Report", "deployer")
    assert (spec.force, spec.prune, spec.allow_empty, spec.wait, spec.suspend) == (True,) * 5
    assert spec.depends_on == (Dependency("x"), Dependency("y", "z"))
    assert (spec.interval, spec.retry_interval, spec.timeout) == ("10m", "30s", "1h30m")
    assert structure(unstructure(spec), DecryptorSpec, "spec") == spec


@pytest.mark.parametrize(
    ("source", "described"),
    [
        ({"fileToDecrypt": "a.yaml"}, "a.yaml"),
        ({"files": ["apps/**", "b.yaml"]}, "apps/**, b.yaml"),
        ({"fileToDecrypt": "a.yaml", "files": ["b.yaml"], "exclude": ["c"]}, "a.yaml, b.yaml"),
        ({"fileToDecrypt": None, "files": ["b.yaml"]}, "b.yaml"),
        ({"fileToDecrypt": "p" * 4096}, "p" * 4096),
        ({"files": ["g" * 1024] * 5}, ", ".join(["g" * 1024] * 5)[:4095] + "…"),
    ],
)
def test_files_are_named_by_path_or_by_glob_and_described_in_a_line(source: dict[str, Any], described: str) -> None:
    obj = _with("spec.source", {"repository": {"url": "https://git.example/app.git"}, **source})
    found = _spec(read_decryptor(obj)).source
    assert found.described == described
    assert isinstance(found, SourceSpec)
    assert (found.files, found.exclude) == (tuple(source.get("files", ())), tuple(source.get("exclude", ())))


@pytest.mark.parametrize("other", [{}, {"branch": "main"}, {"tag": "v1"}])
@pytest.mark.parametrize("commit", ["0123456789" * 4, "0123456789abcdef" * 4])
def test_a_commit_may_be_given_beside_what_is_followed_else(commit: str, other: dict[str, str]) -> None:
    ref = _spec(read_decryptor(_with("spec.source.repository.ref", {"commit": commit, **other}))).source.repository.ref
    assert ref is not None
    assert (ref.commit, ref.branch, ref.tag) == (commit, other.get("branch"), other.get("tag"))


def test_the_metadata_tells_who_waits_for_what() -> None:
    meta = read_decryptor(FIRST_VERSION).meta
    assert (meta.deleting, meta.deleting_since, meta.finalizers, meta.reconcile_at) == (False, None, (), None)
    more = {
        "deletionTimestamp": "2026-11-24T03:00:00Z",
        "finalizers": ["example.com/other", FINALIZER],
        "annotations": {"jiemi.cr/reconcile-at": "now", "other": "x"},
    }
    meta = read_decryptor(_with("metadata", FIRST_VERSION["metadata"] | more)).meta
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
def test_any_value_of_the_annotation_is_one_that_asks(annotations: Any, reconcile_at: str | None) -> None:
    assert read_decryptor(_with("metadata.annotations", annotations)).meta.reconcile_at == reconcile_at


@pytest.mark.parametrize(
    ("finalizers", "expected"),
    [(None, ()), ({}, ()), (FINALIZER, ()), ([], ()), ([1, "a"], ()), ([1, FINALIZER, "a"], (FINALIZER,))],
)
def test_finalizers_are_a_list_or_none(finalizers: Any, expected: tuple[str, ...]) -> None:
    assert read_decryptor(_with("metadata.finalizers", finalizers)).meta.finalizers == expected


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
    assert len(repr(read_decryptor(_with("metadata", metadata)).meta)) < 1_000


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
    assert read_decryptor(_with("status", written)).status == status
    assert written["inventory"][0]["keptKeys"] == ["k"]
    assert written["inventory"][1] == {"apiVersion": "v1", "kind": "Pod", "name": "y", "file": ""}
    assert written["plan"]["objects"][0].keys() == {"action", "kind", "name", "file", "added"}


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
    decryptor = read_decryptor(_with(path, value))
    if isinstance(decryptor.spec, Failure):
        assert decryptor.spec.reason == "InvalidSpec"
        assert " @ spec" in decryptor.spec.message
    else:
        assert structure(unstructure(decryptor.spec), DecryptorSpec, "spec") == decryptor.spec
