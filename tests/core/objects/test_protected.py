"""What a repository's writer can't have Miwen write as itself: the tables, and that they take no honest object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from support.json_values import json_values

from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.protected import Protection, is_judged_as_a_whole, require_openable

ADMISSION = "admissionregistration.k8s.io"
RBAC = "rbac.authorization.k8s.io"
CRD = "apiextensions.k8s.io/v1"
DEPLOY = Path(__file__).parents[3] / "deploy"
BY_DEFAULT = Protection()


def objection(
    api_version: str,
    kind: str,
    namespace: str = "team",
    name: str = "x",
    *,
    protection: Protection = BY_DEFAULT,
    own: str = "team",
    deleted: bool = False,
    **body: Any,
) -> str | None:
    metadata = {"name": name, "namespace": namespace, **body.pop("metadata", {})}
    manifest = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
    ref = ObjectRef(api_version, kind, namespace, name)
    found = protection.objection(ref, None if deleted else manifest, namespace=own)
    return f"{found.why}; {found.remedy}" if found is not None else None


ALWAYS: list[tuple[str, dict[str, Any]]] = [
    ("a Decryptor", {"api_version": "jiemi.cr/v1alpha1", "kind": "Decryptor"}),
    ("one of another version", {"api_version": "jiemi.cr/v2", "kind": "Decryptor"}),
    ("another kind of the group", {"api_version": "jiemi.cr/v1", "kind": "Whatever"}),
    ("a list without items", {"api_version": "jiemi.cr/v1alpha1", "kind": "DecryptorList"}),
    ("the group in capitals", {"api_version": "Jiemi.CR/v1alpha1", "kind": "Decryptor"}),
    ("the group with a blank", {"api_version": " jiemi.cr /v1alpha1", "kind": "Decryptor"}),
    ("a group below it", {"api_version": "more.jiemi.cr/v1", "kind": "Thing"}),
    (
        "the CRD",
        {"api_version": CRD, "kind": "CustomResourceDefinition", "namespace": "", "name": "decryptors.jiemi.cr"},
    ),
    (
        "a CRD whose spec names the group",
        {
            "api_version": CRD,
            "kind": "CustomResourceDefinition",
            "namespace": "",
            "name": "x.example.com",
            "spec": {"group": "JIEMI.cr"},
        },
    ),
    (
        "an APIService for the group",
        {
            "api_version": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "namespace": "",
            "name": "v1alpha1.jiemi.cr",
        },
    ),
    ("known hosts", {"api_version": "v1", "kind": "ConfigMap", "namespace": "jiemi", "name": "krapao-ssh-known-hosts"}),
    ("a Secret beside Krapao", {"api_version": "v1", "kind": "Secret", "namespace": "jiemi"}),
    ("a Lease beside Miwen", {"api_version": "coordination.k8s.io/v1", "kind": "Lease", "namespace": "jiemi"}),
    ("the namespace itself", {"api_version": "v1", "kind": "Namespace", "namespace": "", "name": "jiemi"}),
    (
        "a ServiceAccount's token",
        {"api_version": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token"},
    ),
    ("the same with a blank", {"api_version": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token "}),
    (
        "a Secret that says whose token it is",
        {
            "api_version": "v1",
            "kind": "Secret",
            "metadata": {"annotations": {"kubernetes.io/service-account.name": "admin"}},
        },
    ),
    ("a bootstrap token", {"api_version": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token"}),
    (
        "rights for Miwen",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "namespace": "",
            "metadata": {"labels": {"jiemi.cr/aggregate-to-miwen": "true"}},
        },
    ),
    ("Miwen's role", {"api_version": f"{RBAC}/v1", "kind": "ClusterRole", "namespace": "", "name": "jiemi-miwen"}),
    (
        "Miwen's rights for somebody",
        {"api_version": f"{RBAC}/v1", "kind": "RoleBinding", "roleRef": {"kind": "ClusterRole", "name": "jiemi-miwen"}},
    ),
    (
        "rights for Krapao",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "namespace": "",
            "roleRef": {"name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "repository", "namespace": "jiemi"}],
        },
    ),
    (
        "the same by the group of its namespace",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "namespace": "",
            "subjects": [{"kind": "Group", "name": "system:serviceaccounts:jiemi"}],
        },
    ),
    (
        "the same by its name as a user",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "subjects": [{"kind": "User", "name": "system:serviceaccount:jiemi:miwen"}],
        },
    ),
    (
        "Krapao's volume",
        {
            "api_version": "v1",
            "kind": "PersistentVolume",
            "namespace": "",
            "spec": {"claimRef": {"namespace": "jiemi", "name": "state-repository-0"}, "nfs": {"server": "evil"}},
        },
    ),
    (
        "whom another tenant's Pods take for the API server",
        {"api_version": "v1", "kind": "ConfigMap", "namespace": "another", "name": "kube-root-ca.crt"},
    ),
    (
        "an owner for another tenant's Secret, so that the cluster deletes it",
        {
            "api_version": "v1",
            "kind": "Secret",
            "namespace": "another",
            "metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]},
        },
    ),
    (
        "the same for what has no namespace",
        {
            "api_version": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "namespace": "",
            "metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "u"}]},
        },
    ),
    (
        "one of the cluster's own bindings",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "namespace": "",
            "name": "system:discovery",
            "metadata": {"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        },
    ),
    (
        "the shipped admission policy",
        {
            "api_version": f"{ADMISSION}/v1",
            "kind": "ValidatingAdmissionPolicy",
            "namespace": "",
            "name": "jiemi-miwen-decryptors",
        },
    ),
]

EVERYTHING = Protection(
    opened=frozenset(
        {
            *(f"{kind}.{ADMISSION}" for kind in ("ValidatingAdmissionPolicy", "ValidatingWebhookConfiguration")),
            *("APIService.apiregistration.k8s.io", "CustomResourceDefinition.apiextensions.k8s.io"),
            *(f"ClusterRole.{RBAC}", "namespace/kube-system", "Decryptor.jiemi.cr", "namespace/jiemi", "Secret."),
        }
    )
)
"""All that an operator can open, and what he can't: nothing in the first table comes of it."""


@pytest.mark.parametrize("protection", [Protection(), EVERYTHING], ids=["by default", "with all that can be opened"])
@pytest.mark.parametrize(("_", "given_object"), ALWAYS, ids=[name for name, _ in ALWAYS])
def test_it_is_refused_whatever_is_opened(_: str, given_object: dict[str, Any], protection: Protection) -> None:
    why = objection(**given_object, protection=protection)
    assert why is not None
    assert "spec.serviceAccountName" in why
    assert "--allow-protected" not in why


@pytest.mark.parametrize(
    ("api_version", "kind", "namespace", "name"),
    [
        ("jiemi.cr/v1alpha1", "Decryptor", "team", "x"),
        (CRD, "CustomResourceDefinition", "", "decryptors.jiemi.cr"),
        ("v1", "ConfigMap", "jiemi", "krapao-ssh-known-hosts"),
        ("v1", "Namespace", "", "jiemi"),
        (f"{RBAC}/v1", "ClusterRoleBinding", "", "jiemi-miwen"),
        ("v1", "Secret", "kube-system", "x"),
    ],
)
def test_it_is_not_deleted_either(api_version: str, kind: str, namespace: str, name: str) -> None:
    assert objection(api_version, kind, namespace, name, deleted=True) is not None


OPENABLE: list[tuple[str, dict[str, Any]]] = [
    (
        f"ValidatingWebhookConfiguration.{ADMISSION}",
        {"api_version": f"{ADMISSION}/v1", "kind": "ValidatingWebhookConfiguration", "namespace": ""},
    ),
    (
        f"MutatingAdmissionPolicy.{ADMISSION}",
        {"api_version": f"{ADMISSION}/v1alpha1", "kind": "MutatingAdmissionPolicy", "namespace": ""},
    ),
    (
        "APIService.apiregistration.k8s.io",
        {
            "api_version": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "namespace": "",
            "name": "v1beta1.metrics.k8s.io",
        },
    ),
    (
        "CertificateSigningRequest.certificates.k8s.io",
        {"api_version": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "namespace": ""},
    ),
    (
        "CustomResourceDefinition.apiextensions.k8s.io",
        {
            "api_version": CRD,
            "kind": "CustomResourceDefinition",
            "namespace": "",
            "name": "x.example.com",
            "spec": {"group": "example.com", "conversion": {"strategy": "Webhook"}},
        },
    ),
    (
        "CustomResourceDefinition.apiextensions.k8s.io",  # another has set the strategy
        {
            "api_version": CRD,
            "kind": "CustomResourceDefinition",
            "namespace": "",
            "name": "x.example.com",
            "spec": {"group": "example.com", "conversion": {"webhook": {"clientConfig": {"url": "https://evil"}}}},
        },
    ),
    (
        "FlowSchema.flowcontrol.apiserver.k8s.io",
        {"api_version": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "namespace": ""},
    ),
    (
        "PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io",
        {"api_version": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "namespace": ""},
    ),
    (
        f"ClusterRole.{RBAC}",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "namespace": "",
            "name": "system:basic-user",
            "metadata": {"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        },
    ),
    (
        f"ClusterRole.{RBAC}",
        {
            "api_version": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "namespace": "",
            "metadata": {"labels": {f"{RBAC}/aggregate-to-view": "true"}},
        },
    ),
    (
        "namespace/kube-system",
        {"api_version": "v1", "kind": "ConfigMap", "namespace": "kube-system", "name": "aws-auth"},
    ),
    ("namespace/kube-public", {"api_version": "v1", "kind": "ConfigMap", "namespace": "kube-public"}),
    ("namespace/kube-system", {"api_version": "v1", "kind": "Namespace", "namespace": "", "name": "kube-system"}),
]


@pytest.mark.parametrize(("opens", "given_object"), OPENABLE, ids=[str(each[1]["kind"]) for each in OPENABLE])
def test_it_is_refused_until_the_operator_opens_it_by_that_name(opens: str, given_object: dict[str, Any]) -> None:
    why = objection(**given_object)
    assert why is not None
    assert f"--allow-protected {opens}" in why
    assert objection(**given_object, protection=Protection(opened=frozenset({require_openable(opens)}))) is None
    others = frozenset(name for name, _ in OPENABLE if name != opens)
    assert objection(**given_object, protection=Protection(opened=others)) is not None


@pytest.mark.parametrize(
    "given_object",
    [
        {"api_version": "v1", "kind": "Secret"},
        {"api_version": "v1", "kind": "Secret", "type": "kubernetes.io/tls"},
        {"api_version": "v1", "kind": "ConfigMap", "namespace": "another"},
        {"api_version": "v1", "kind": "ConfigMap", "namespace": "another", "name": "root-ca.crt"},
        {"api_version": "v1", "kind": "Secret", "metadata": {"ownerReferences": [{"kind": "ConfigMap"}]}},
        {"api_version": "v1", "kind": "Secret", "namespace": "another", "metadata": {"ownerReferences": []}},
        {"api_version": "v1", "kind": "PersistentVolume", "namespace": "", "spec": {"claimRef": {"namespace": "a"}}},
        {"api_version": "v1", "kind": "ServiceAccount"},
        {"api_version": "v1", "kind": "Namespace", "namespace": "", "name": "team-b"},
        {"api_version": "apps/v1", "kind": "Deployment"},
        {"api_version": CRD, "kind": "CustomResourceDefinition", "namespace": "", "name": "x.example.com"},
        {
            "api_version": CRD,
            "kind": "CustomResourceDefinition",
            "namespace": "",
            "name": "x.notjiemi.cr",
            "spec": {"group": "notjiemi.cr", "conversion": {"strategy": "None"}},
        },
        {"api_version": f"{RBAC}/v1", "kind": "Role"},
        {"api_version": f"{RBAC}/v1", "kind": "ClusterRole", "namespace": "", "name": "jiemi"},
        {
            "api_version": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "roleRef": {"name": "x"},
            "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": "team"}],
        },
        {"api_version": "example.com/v1", "kind": "Decryptor"},
        # Whoever made a Decryptor there may write there.
        {"api_version": "v1", "kind": "Secret", "namespace": "kube-system", "own": "kube-system"},
        # A namespace of that name only: this Jiemi runs elsewhere.
        {"api_version": "v1", "kind": "Secret", "namespace": "jiemi", "protection": Protection("elsewhere")},
    ],
    ids=lambda each: f"{each['kind']} {each.get('name', '')}{each.get('namespace', '')}",
)
def test_it_is_applied_as_ever(given_object: dict[str, Any]) -> None:
    assert objection(**given_object) is None


WHOLE: list[tuple[str, str, dict[str, Any]]] = [
    (
        "a role that Miwen's is made of",
        "ClusterRole",
        {"metadata": {"labels": {"jiemi.cr/aggregate-to-miwen": "true"}}},
    ),
    ("a role that view is made of", "ClusterRole", {"metadata": {"labels": {f"{RBAC}/aggregate-to-view": "true"}}}),
    ("a role that is made of others", "ClusterRole", {"aggregationRule": {"clusterRoleSelectors": [{}]}}),
    ("the cluster's own role", "Role", {"metadata": {"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}}),
    ("a binding of Miwen's role", "RoleBinding", {"roleRef": {"name": "jiemi-miwen"}, "subjects": [{"kind": "User"}]}),
]
"""What others have set of an object whose manifest says nothing of it."""


@pytest.mark.parametrize(("kind", "live"), [each[1:] for each in WHOLE], ids=[each[0] for each in WHOLE])
def test_a_role_or_binding_is_judged_by_what_others_have_set_of_it_too(kind: str, live: dict[str, Any]) -> None:
    api_version = f"{RBAC}/v1"
    ref = ObjectRef(api_version, kind, "" if kind == "ClusterRole" else "team", "x")
    assert is_judged_as_a_whole(ref)
    assert objection(api_version, kind, ref.namespace, rules=[{"verbs": ["get"]}]) is None
    whole = {"apiVersion": api_version, "kind": kind, "rules": [{"verbs": ["get"]}], **live}
    found = Protection().objection_to(ref, whole, namespace="team")
    assert found is not None
    assert "spec.serviceAccountName" in found.remedy


def test_an_owner_that_another_has_given_a_role_does_not_count() -> None:
    ref = ObjectRef(f"{RBAC}/v1", "ClusterRole", "", "x")
    whole = {"metadata": {"labels": {"a": "b"}, "ownerReferences": [{"kind": "Thing"}]}, "rules": []}
    assert Protection().objection_to(ref, whole, namespace="team") is None
    assert not is_judged_as_a_whole(ObjectRef("v1", "Secret", "team", "x"))


@pytest.mark.parametrize(
    "text",
    [
        *("Decryptor.jiemi.cr", "Secret", "Secret.", "Secret.v1", "namespace/jiemi", "namespace/", "namespace/*", ""),
        *(f"*.{ADMISSION}", ADMISSION, f"ClusterRoleBinding.{RBAC}", f"APIService.{ADMISSION}.evil", "X.jiemi.cr"),
    ],
)
def test_what_opens_nothing_is_a_slip_of_the_operators(text: str) -> None:
    with pytest.raises(ValueError, match=r"give KIND|only kube"):
        require_openable(text)


_JSON = json_values(st.text(max_size=12), max_leaves=8)


@given(
    st.dictionaries(
        st.sampled_from(["metadata", "spec", "type", "subjects", "roleRef", "aggregationRule", "data"]), _JSON
    ),
    st.sampled_from(["jiemi.cr/v1alpha1", "v1", f"{RBAC}/v1", CRD, f"{ADMISSION}/v1", "apiregistration.k8s.io/v1"]),
    st.sampled_from(["Decryptor", "Secret", "RoleBinding", "ClusterRole", "CustomResourceDefinition", "APIService"]),
)
def test_whatever_form_a_hostile_object_has_it_is_judged(body: dict[str, Any], api_version: str, kind: str) -> None:
    ref = ObjectRef(api_version, kind, "team", "x")
    why = Protection().objection(ref, body, namespace="team")
    assert (why is not None) or not api_version.startswith("jiemi.cr/")


def test_all_that_deploy_installs_is_protected() -> None:
    for path in DEPLOY.glob("*.yaml"):
        if path.name == "kustomization.yaml":
            continue
        for manifest in YAML(typ="safe").load_all(path.read_text()):
            metadata = manifest["metadata"]
            ref = ObjectRef(
                manifest["apiVersion"], manifest["kind"], str(metadata.get("namespace", "")), str(metadata["name"])
            )
            assert Protection().objection(ref, manifest, namespace="team") is not None, ref.label
