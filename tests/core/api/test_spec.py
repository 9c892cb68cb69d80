"""Every field of the spec is read; what the first version did not have is optional."""

from __future__ import annotations

import pytest
from support.first_version import FIRST_VERSION, spec_of, with_value

from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.fields import structure, unstructure
from jiemi.core.api.spec import CommonMetadata, DecryptorSpec, Dependency
from jiemi.core.errors import Failure
from jiemi.core.sensitive import SensitiveText

CANARY = "canary-value"


def test_fields_that_the_first_version_did_not_have_are_off_by_default() -> None:
    spec = spec_of(read_decryptor(FIRST_VERSION))
    assert (spec.apply_policy, spec.conflict_policy) == ("BestEffort", "TakeOver")
    assert (spec.deletion_policy, spec.drift_policy, spec.mode) == ("Orphan", "Correct", "Apply")
    assert (spec.force, spec.prune, spec.allow_empty, spec.wait, spec.suspend) == (False,) * 5
    assert (spec.target_namespace, spec.common_metadata, spec.service_account_name) == (None, None, None)
    assert (spec.interval, spec.retry_interval, spec.timeout, spec.depends_on) == (None, None, None, ())
    assert (spec.source.files, spec.source.exclude, spec.target) == ((), (), None)


def test_every_field_that_was_added_since_is_read() -> None:
    obj = with_value(
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
    spec = spec_of(read_decryptor(obj))
    assert spec.target_namespace == "team"
    assert spec.common_metadata == CommonMetadata({"a": "b"}, {"c": "d"})
    assert (spec.apply_policy, spec.conflict_policy, spec.mode) == ("Atomic", "Refuse", "DryRun")
    assert (spec.deletion_policy, spec.drift_policy, spec.service_account_name) == ("Delete", "Report", "deployer")
    assert (spec.force, spec.prune, spec.allow_empty, spec.wait, spec.suspend) == (True,) * 5
    assert spec.depends_on == (Dependency("x"), Dependency("y", "z"))
    assert (spec.interval, spec.retry_interval, spec.timeout) == ("10m", "30s", "1h30m")
    assert structure(unstructure(spec), DecryptorSpec, "spec") == spec


@pytest.mark.parametrize("name", ["aws", "gcp", "vault", "age"])
def test_every_provider_of_the_first_version_is_read(name: str) -> None:
    literal = {"literal": CANARY}
    providers = {
        "aws": {"keyId": literal, "accessKey": literal, "region": literal},
        "gcp": {"serviceAccount": literal},
        "vault": {},
        "age": {"privateKey": literal},
    }
    spec = spec_of(read_decryptor(with_value("spec.provider", {name: providers[name]})))
    assert spec.provider.named() == (name,)
    assert CANARY not in repr(spec)


def test_an_explicit_null_means_not_given_as_in_the_first_version() -> None:
    value = {"literal": None, "secretName": "pgp-secret", "key": "private.rsa"}
    spec = spec_of(read_decryptor(with_value("spec.provider.pgp.privateKey", value)))
    assert spec == spec_of(read_decryptor(FIRST_VERSION))


def test_a_literal_survives_the_way_to_json_and_back() -> None:
    spec = spec_of(read_decryptor(with_value("spec.provider", {"age": {"privateKey": {"literal": CANARY}}})))
    assert structure(unstructure(spec), DecryptorSpec, "spec") == spec
    assert spec.provider.age is not None
    assert spec.provider.age.private_key is not None
    assert spec.provider.age.private_key.literal == SensitiveText(CANARY)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (
            "spec.target",
            {"name": "My_Secret"},
            "must be a name that an object can have @ spec.target.name. Use at most 253",
        ),
        ("spec.serviceAccountName", "team/deployer", "an object can have @ spec.serviceAccountName. Use at most 253"),
        ("spec.targetNamespace", "My_Team", "a namespace can have @ spec.targetNamespace. Use at most 63"),
        ("spec.targetNamespace", "a.b", "a namespace can have @ spec.targetNamespace. Use at most 63"),
        (
            "spec.dependsOn",
            [{"name": "team/db"}],
            "must be a name alone @ spec.dependsOn[0].name. Put the namespace into",
        ),
    ],
)
def test_a_name_that_nothing_can_have_is_named_by_its_own_field(path: str, value: object, says: str) -> None:
    decryptor = read_decryptor(with_value(path, value))
    assert isinstance(decryptor.spec, Failure)
    assert decryptor.spec.reason == "InvalidSpec"
    assert says in decryptor.spec.text
