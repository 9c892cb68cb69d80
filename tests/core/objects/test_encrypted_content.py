"""No ciphertext in the cluster, and no plaintext where ciphertext is meant to stay."""

from __future__ import annotations

from typing import Any

import pytest

from jiemi.core.content.ciphertext import ENCRYPTED
from jiemi.core.objects.encrypted_content import ciphertext_in, kind_objection
from jiemi.core.objects.manifests import Manifest

SEALED = f"{ENCRYPTED}YWJj,iv:{'A' * 43}=,tag:{'B' * 22}==,type:str]"


def manifest(api_version: str = "v1", kind: str = "Secret", **fields: Any) -> Manifest:
    metadata = {"name": "x", "namespace": "team"} | fields.pop("metadata", {})
    return Manifest({"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}, 2, "a.yaml")


@pytest.mark.parametrize(
    ("found", "place", "mend"),
    [
        (manifest(stringData={"k": SEALED}), "stringData.k", "Put a whole SOPS file there"),
        (manifest(kind="ConfigMap", data={"app.yaml": f"a: {SEALED}\n"}), "data.app.yaml", "make it a Secret"),
        (
            manifest("apps/v1", "Deployment", spec={"containers": [{"env": [{"name": "A", "value": SEALED}]}]}),
            "spec.containers[0].env[0].value",
            "make it a Secret",
        ),
        (manifest("x.example/v1", "Custom", spec={"a": SEALED}), "spec.a", "make it a Secret"),
        (manifest(metadata={"annotations": {"a": SEALED}}), "metadata.annotations.a", "Put a whole SOPS file there"),
    ],
)
def test_ciphertext_is_refused_with_its_place_and_what_to_do(found: Manifest, place: str, mend: str) -> None:
    failure = ciphertext_in(found)
    assert failure is not None
    assert failure.reason == "CiphertextLeft"
    assert f"{found.kind} team/x (document 2 of a.yaml): {place} holds ciphertext of SOPS" in failure.text
    assert mend in failure.text
    assert 'jiemi.cr/ciphertext: "keep"' in failure.text
    assert SEALED not in failure.text


def test_ciphertext_that_is_meant_is_left_where_the_object_says_so() -> None:
    for value, refused in (("keep", False), ("Keep", True), ("true", True), ("", True)):
        found = manifest(data={"k": SEALED}, metadata={"annotations": {"jiemi.cr/ciphertext": value}})
        assert (ciphertext_in(found) is not None) is refused
    for metadata in ({"annotations": None}, {"annotations": "keep"}, {"labels": {"jiemi.cr/ciphertext": "keep"}}):
        assert ciphertext_in(manifest(data={"k": SEALED}, metadata=metadata)) is not None


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        *(("v1", "Secret"), ("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("batch/v1", "Job")),
        *(("rbac.authorization.k8s.io/v1", "Role"), ("networking.k8s.io/v1", "Ingress")),
        *(("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("policy/v1", "PodDisruptionBudget")),
    ],
)
def test_the_apis_own_kinds_may_be_encrypted_as_in_the_first_version(api_version: str, kind: str) -> None:
    assert kind_objection(manifest(api_version, kind), named=False, allowed=()) is None


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("cert-manager.io/v1", "ClusterIssuer"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass"),
        ("bitnami.com/v1alpha1", "SealedSecret"),
        ("x.example/v1", "Secret"),
    ],
)
def test_a_custom_resource_needs_its_files_name_or_its_kind_in_the_spec(api_version: str, kind: str) -> None:
    found = manifest(api_version, kind)
    group = api_version.partition("/")[0]
    failure = kind_objection(found, named=False, allowed=("Other.example.com",))
    assert failure is not None
    assert failure.reason == "KindNotForSecrets"
    assert f"{kind} team/x of {group} (document 2 of a.yaml)" in failure.text
    assert f"list {kind}.{group} in spec.encryptedKinds" in failure.text
    assert kind_objection(found, named=True, allowed=()) is None
    assert kind_objection(found, named=False, allowed=(f"{kind}.{group}",)) is None


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("isindir.github.com/v1alpha3", "SopsSecret"),
        ("addons.projectcapsule.dev/v1alpha1", "SopsSecret"),
        ("addons.projectcapsule.dev/v1alpha1", "GlobalSopsSecret"),
        ("craftypath.github.io/v1alpha1", "SopsSecret"),
        ("fork.example/v1", "SopsSecret"),
    ],
)
def test_what_another_operator_decrypts_is_never_put_in_clear_except_by_its_kind(api_version: str, kind: str) -> None:
    found = manifest(api_version, kind)
    for named in (True, False):
        failure = kind_objection(found, named=named, allowed=())
        assert failure is not None
        assert failure.reason == "KindNotForSecrets"
        assert "Leave the file to that operator by spec.source.exclude" in failure.text
    group = api_version.partition("/")[0]
    assert kind_objection(found, named=False, allowed=(f"{kind}.{group}",)) is None
