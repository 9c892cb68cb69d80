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
    bench.first.append(bench.decryptor("first-one", bench.spec))


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


def _spec(**fields: Any) -> Callable[[Bench], None]:
    """A good file, and something in the spec."""

    def make(bench: Bench) -> None:
        bench.good()
        bench.spec.update(fields)

    return make


OBJECTS = (
    Mistake(
        "no-kind",
        "`kind` is missing.",
        "NotAKubernetesObject",
        "document 1 of {app}/secret.enc.yaml has no kind. Add kind to it.",
        _object(""),
    ),
    Mistake(
        "generate-name",
        "`generateName` in place of a name.",
        "NotAKubernetesObject",
        "document 1 of {app}/secret.enc.yaml has metadata.generateName and no metadata.name: each apply would "
        "make another object. Give it metadata.name in place of metadata.generateName.",
        _metadata(generateName="app-"),
    ),
    Mistake(
        "name-rules",
        "The name has capitals and _.",
        "NotAKubernetesObject",
        "metadata.name of document 1 of {app}/secret.enc.yaml is none that an object can have (it may be "
        "encrypted text, so it is not shown). Correct metadata.name: at most 253 characters, small letters, "
        "digits, - and . only, a letter or digit first and last (RFC 1123, DNS subdomain).",
        _metadata(name="My_App"),
    ),
    Mistake(
        "target-name-rules",
        "`target.name` has capitals and _.",
        "InvalidSpec",
        "must be a name that an object can have @ spec.target.name. Use at most 253 characters, small letters, digits, "
        "- and . only, a letter or digit first and last (RFC 1123, DNS subdomain).",
        _spec(target={"name": "My_Secret"}),
    ),
    Mistake(
        "name-is-a-number",
        "The name is a number.",
        "NotAKubernetesObject",
        "metadata.name of document 1 of {app}/secret.enc.yaml is a number or true or false, and no text. Put the "
        "name in quotes.",
        _metadata(name=2024),
    ),
    Mistake(
        "number-in-string-data",
        "A number under `stringData`.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app}: stringData.port (expected string). Put the value in "
        "quotes: without them it is a number, true, false or a date, and no text.",
        _object(stringData={"port": 8080}),
    ),
    Mistake(
        "mapping-in-string-data",
        "A mapping under `stringData`.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app}: stringData.db (expected string). Write one text there, in "
        "place of the mapping or list; with | it may have several lines.",
        _object(stringData={"db": {"password": "canary"}}),
    ),
    Mistake(
        "docker-config-that-is-none",
        "A password where a Docker config belongs.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app} (422 Invalid): data[.dockerconfigjson] (FieldValueInvalid). "
        "Write there what Docker has in its config.json: JSON, with the hosts under auths.",
        _object(type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "canary"}),
    ),
    Mistake(
        "not-base64",
        "Plain text under `data`.",
        "ApplyRejected",
        "the API server can't read Secret {namespace}/{app}: a value under data is not base64. Put plain text "
        "under stringData; under data each value is base64.",
        _object(data={"password": "canary!"}),
    ),
    Mistake(
        "bad-data-key",
        "A key of a Secret with a blank.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app} (422 Invalid): data[my key] (FieldValueInvalid). Name "
        "the key with letters, digits, -, _ and . only.",
        _object(stringData={"my key": "canary"}),
    ),
    Mistake(
        "over-1-mib",
        "A Secret of more than 1 MiB.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app} (422 Invalid): data (FieldValueTooLong). A Secret or "
        "ConfigMap holds 1 MiB (1,048,576 bytes) at most, any object 1.5 MiB: split it into several.",
        _object(stringData={"a": "x" * (1024 * 1024 + 1)}),
    ),
    Mistake(
        "unknown-field",
        "A field is misspelt.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app}: strngData (field not declared in schema). Write "
        "stringData, if that is meant: the kind has no field of the name that is there.",
        _object(strngData={"a": "canary"}),
    ),
    Mistake(
        "list-key-twice",
        "Two ports of a Service are the same.",
        "ApplyRejected",
        "the API server rejected Service {namespace}/{app}: spec.ports (duplicate entries). Two elements of that "
        "list have the same key (a name, a port): take one out, or change it.",
        _service(80, 80),
    ),
    Mistake(
        "bad-label",
        "A label's value has a blank.",
        "ApplyRejected",
        "the API server rejected Secret {namespace}/{app} (422 Invalid): metadata.labels (FieldValueInvalid). A "
        "label has at most 63 characters: letters, digits, -, _ and . only, a letter or digit first and last.",
        _metadata(name="bad-label", labels={"team": "my team"}),
    ),
    Mistake(
        "unknown-kind",
        "The CustomResourceDefinition is not installed.",
        "KindUnknown",
        "the cluster serves no kind Widget of apiVersion example.com/v1. Install the CustomResourceDefinition, "
        "or correct apiVersion and kind.",
        _widget,
    ),
    Mistake(
        "old-api-version",
        "The apiVersion is no longer served.",
        "KindUnknown",
        "the cluster serves no kind Ingress of apiVersion extensions/v1beta1; it serves Ingress of "
        "networking.k8s.io/v1. Correct apiVersion, or install the CustomResourceDefinition.",
        _old_ingress,
    ),
    Mistake(
        "small-kind",
        "`kind` begins with a small letter.",
        "KindUnknown",
        "the cluster serves no kind secret of apiVersion v1; it serves Secret of v1. Correct kind, or install the "
        "CustomResourceDefinition.",
        _object("secret", stringData={"a": "canary"}),
    ),
    Mistake(
        "no-namespace",
        "The object's namespace does not exist.",
        "NamespaceNotFound",
        "there is no namespace stagng, where Secret stagng/x belongs. Create namespace stagng, or correct "
        "metadata.namespace (or spec.targetNamespace).",
        _metadata(name="x", namespace="stagng"),
    ),
    Mistake(
        "immutable",
        "The live Secret is immutable.",
        "FieldImmutable",
        "Secret {namespace}/{app} has fields that can no longer be changed: data (FieldValueForbidden). The "
        "live object stands in the way. It was never applied by Jiemi, so spec.force does not delete it. "
        "Delete it yourself, or describe it in git with these fields as they are.",
        _immutable,
    ),
    Mistake(
        "others-field",
        "Another owns the field, and `conflictPolicy` is Refuse.",
        "FieldConflict",
        "ConfigMap {namespace}/{app}: others own fields with other values: data.a (owned by jiemi-tests). Stop one of "
        "the two from setting the field, or set `conflictPolicy: TakeOver`.",
        _others_field,
    ),
    Mistake(
        "described-twice",
        "Two files describe the same object.",
        "DuplicateObject",
        "1 of 2 objects was not applied, the first: {app}/a.enc.yaml and {app}/b.enc.yaml both describe Secret "
        "{namespace}/{app}. Remove one of the two, or exclude its file with `exclude`.",
        _described_twice,
    ),
    Mistake(
        "claimed",
        "Another Decryptor has the object.",
        "ObjectClaimed",
        "Secret {namespace}/{app} belongs to Decryptor {namespace}/first-one. Let one of the two describe it; to "
        "hand it over, take it out of the files of {namespace}/first-one first (with `prune: false`).",
        _claimed,
    ),
)

RIGHTS = (
    Mistake(
        "no-account",
        "The ServiceAccount does not exist.",
        "ServiceAccountNotFound",
        "there is no ServiceAccount {namespace}/deployer, which spec.serviceAccountName (or --default-service-account) "
        "names. Create the ServiceAccount and grant it the rights that it needs, or correct `serviceAccountName`.",
        _missing_account,
    ),
    Mistake(
        "account-of-another-namespace",
        "`serviceAccountName` with a namespace before it.",
        "InvalidSpec",
        "must be a name that an object can have @ spec.serviceAccountName. Use at most 253 characters, small letters, "
        "digits, - and . only, a letter or digit first and last (RFC 1123, DNS subdomain).",
        _spec(serviceAccountName="other/deployer"),
    ),
    Mistake(
        "account-without-rights",
        "The ServiceAccount has no right to write Secrets.",
        "ReadForbidden",
        "reading Secret {namespace}/{app}: not allowed to ServiceAccount {namespace}/{app}. Grant `get`, "
        "`create` and `patch` on secrets of the core API group to ServiceAccount {namespace}/{app} in namespace "
        "{namespace}.",
        _account_without_rights,
    ),
    Mistake(
        "kind-without-rights",
        "Miwen may not write the kind.",
        "ReadForbidden",
        "reading CronJob {namespace}/{app}: not allowed to Miwen's ServiceAccount. Grant `get`, `create` and "
        "`patch` on cronjobs of API group batch to Miwen's ServiceAccount in namespace {namespace}, for example "
        'by a ClusterRole labelled jiemi.cr/aggregate-to-miwen: "true".',
        _kind_without_rights,
    ),
    Mistake(
        "into-kube-system",
        "The object goes into kube-system.",
        "ObjectProtected",
        "Secret kube-system/{app} is protected: kube-system is a namespace of the cluster's own, and the "
        "Decryptor is in another. Set spec.serviceAccountName to an account that may write it, or ask the "
        "operator for `jiemi miwen --allow-protected namespace/kube-system`.",
        _into_kube_system,
    ),
    Mistake(
        "custom-resource",
        "An encrypted custom resource that a glob meets.",
        "KindNotForSecrets",
        "ClusterIssuer {app} of cert-manager.io (document 1 of {app}/secret.enc.yaml) is a custom resource, "
        "which would hold the decrypted values in clear, and only a glob matches its file. Exclude the file by "
        "spec.source.exclude; if it is meant, name it in spec.source.files, or list "
        "ClusterIssuer.cert-manager.io in spec.encryptedKinds.",
        _custom_resource,
    ),
    Mistake(
        "waits-for-nobody",
        "`dependsOn` names no Decryptor that there is.",
        "DependencyNotReady",
        "spec.dependsOn: Decryptor {namespace}/database does not exist. Create Decryptor {namespace}/database, "
        "or take it out of spec.dependsOn.",
        _waits_for_nobody,
    ),
    Mistake(
        "dependency-with-namespace",
        "`dependsOn` with the namespace in the name.",
        "InvalidSpec",
        "must be a name alone @ spec.dependsOn[0].name. Put the namespace into `namespace` beside it.",
        _spec(dependsOn=[{"name": "other/database"}]),
    ),
    Mistake(
        "in-a-circle",
        "Two Decryptors wait for one another.",
        "DependencyCycle",
        "spec.dependsOn makes a circle: {namespace}/{app} -> {namespace}/the-other -> {namespace}/{app}. Remove one of "
        "the names from `dependsOn`. The message shows the cycle.",
        _circle,
    ),
)
