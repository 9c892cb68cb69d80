"""Mistakes in the objects, and in what Miwen may do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mistakes.mistake import Bench, Mistake


def _object(kind: str = "Secret", **fields: Any) -> Callable[[Bench], None]:
    def make(bench: Bench) -> None:
        bench.seal(bench.object(kind, **fields))

    return make


def _metadata(**metadata: Any) -> Callable[[Bench], None]:
    return _object(metadata=metadata, stringData={"a": "canary"})


def _service(*ports: int) -> Callable[[Bench], None]:
    return _object("Service", spec={"ports": [{"port": port, "name": f"p{at}"} for at, port in enumerate(ports)]})


def _widget(bench: Bench) -> None:
    bench.seal({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": bench.name}})


def _old_ingress(bench: Bench) -> None:
    bench.seal({"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": bench.name}})


def _immutable(bench: Bench) -> None:
    bench.in_cluster(bench.object(immutable=True, stringData={"a": "old"}))
    bench.seal(bench.object(stringData={"a": "canary"}))


def _others_field(bench: Bench) -> None:
    bench.in_cluster(bench.object("ConfigMap", data={"a": "theirs"}))
    bench.seal(bench.object("ConfigMap", data={"a": "canary"}))
    bench.spec["conflictPolicy"] = "Refuse"


def _described_twice(bench: Bench) -> None:
    for name in ("a.enc.yaml", "b.enc.yaml"):
        bench.seal(bench.object(stringData={"a": name}), name=name)
    bench.only_files(f"{bench.name}/*.yaml")


def _claimed(bench: Bench) -> None:
    bench.good()
    bench.others.append(bench.decryptor("first-one", bench.spec))


def _missing_account(bench: Bench) -> None:
    bench.good()
    bench.spec["serviceAccountName"] = "deployer"


def _account_without_rights(bench: Bench) -> None:
    bench.good()
    bench.in_cluster({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": bench.name}})
    bench.spec["serviceAccountName"] = bench.name


def _kind_without_rights(bench: Bench) -> None:
    bench.seal(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": bench.name},
            "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
        }
    )


def _into_kube_system(bench: Bench) -> None:
    bench.seal(
        {**bench.object(stringData={"a": "canary"}), "metadata": {"name": bench.name, "namespace": "kube-system"}}
    )


def _custom_resource(bench: Bench) -> None:
    bench.seal({"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": bench.name}})
    bench.only_files(f"{bench.name}/*.yaml")


def _waits_for_nobody(bench: Bench) -> None:
    bench.good()
    bench.spec["dependsOn"] = [{"name": "database"}]


def _circle(bench: Bench) -> None:
    bench.good()
    bench.others.append(bench.decryptor("the-other", {**bench.spec, "dependsOn": [{"name": bench.name}]}))
    bench.spec["dependsOn"] = [{"name": "the-other"}]


OBJECTS = (
    Mistake("no-kind", "`kind` is missing.", "NotAKubernetesObject", "", _object("")),
    Mistake(
        "generate-name",
        "`generateName` in place of a name.",
        "NotAKubernetesObject",
        "",
        _metadata(generateName="app-"),
    ),
    Mistake("name-rules", "The name has capitals and _.", "NotAKubernetesObject", "", _metadata(name="My_App")),
    Mistake("name-is-a-number", "The name is a number.", "NotAKubernetesObject", "", _metadata(name=2024)),
    Mistake(
        "number-in-string-data", "A number under `stringData`.", "ApplyRejected", "", _object(stringData={"port": 8080})
    ),
    Mistake("not-base64", "Plain text under `data`.", "ApplyRejected", "", _object(data={"password": "canary!"})),
    Mistake(
        "bad-data-key", "A key of a Secret with a blank.", "ApplyRejected", "", _object(stringData={"my key": "canary"})
    ),
    Mistake(
        "over-1-mib",
        "A Secret of more than 1 MiB.",
        "ApplyRejected",
        "",
        _object(stringData={"a": "x" * (1024 * 1024 + 1)}),
    ),
    Mistake("unknown-field", "A field is misspelt.", "ApplyRejected", "", _object(strngData={"a": "canary"})),
    Mistake("list-key-twice", "Two ports of a Service are the same.", "ApplyRejected", "", _service(80, 80)),
    Mistake(
        "bad-label",
        "A label's value has a blank.",
        "ApplyRejected",
        "",
        _metadata(name="bad-label", labels={"team": "my team"}),
    ),
    Mistake("unknown-kind", "The CustomResourceDefinition is not installed.", "KindUnknown", "", _widget),
    Mistake("old-api-version", "The apiVersion is served no more.", "KindUnknown", "", _old_ingress),
    Mistake(
        "no-namespace",
        "The object's namespace does not exist.",
        "NamespaceNotFound",
        "",
        _metadata(name="x", namespace="stagng"),
    ),
    Mistake("immutable", "The live Secret is immutable.", "FieldImmutable", "", _immutable),
    Mistake(
        "others-field", "Another owns the field, and `conflictPolicy` is Refuse.", "FieldConflict", "", _others_field
    ),
    Mistake("described-twice", "Two files describe the same object.", "DuplicateObject", "", _described_twice),
    Mistake("claimed", "Another Decryptor has the object.", "ObjectClaimed", "", _claimed),
)

RIGHTS = (
    Mistake("no-account", "The ServiceAccount does not exist.", "ServiceAccountNotFound", "", _missing_account),
    Mistake(
        "account-without-rights",
        "The ServiceAccount has no right to write Secrets.",
        "ApplyForbidden",
        "",
        _account_without_rights,
    ),
    Mistake("kind-without-rights", "Miwen may not write the kind.", "ApplyForbidden", "", _kind_without_rights),
    Mistake("into-kube-system", "The object goes into kube-system.", "ObjectProtected", "", _into_kube_system),
    Mistake(
        "custom-resource", "An encrypted custom resource that a glob meets.", "KindNotForSecrets", "", _custom_resource
    ),
    Mistake(
        "waits-for-nobody", "`dependsOn` names no Decryptor that there is.", "DependencyNotReady", "", _waits_for_nobody
    ),
    Mistake("circle", "Two Decryptors wait for one another.", "DependencyCycle", "", _circle),
)
