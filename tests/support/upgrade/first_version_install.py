"""Jiemi's first version as it was installed: its definition of a Decryptor, its workloads and rights, and what it did.

Written from what its manifests say (names, selectors, ports, volumes, rules, the schema's fields), not copied.
"""

from __future__ import annotations

from typing import Any

from support.kubernetes.api_server import ApiServer, Manifest

NAMESPACE = "jiemi"
_LIMITS = {"cpu": "250m", "memory": "500Mi"}


def definition(*, old_names: bool = False) -> Manifest:
    """The CustomResourceDefinition, which bounds nothing.

    Args:
        old_names: with the fields of providers as they were called at first (`key_id`).
    """
    providers = {"aws": ["accessKey", "keyId", "region"], "gcp": ["serviceAccount"], "pgp": ["privateKey"]}
    if old_names:
        providers |= {"aws": ["access_key", "key_id", "region"], "gcp": ["service_account"]}
    record = {
        "deployed_at": _TEXT,
        "error_message": {**_TEXT, "nullable": True},
        "file_to_decrypt": _TEXT,
        "id": {"type": "integer", "format": "uint64", "minimum": 0.0},
        "revision": _TEXT,
        "status": {**_TEXT, "enum": ["Sync", "NotSync"]},
    }
    entry = _struct(record, required=sorted(record.keys() - {"error_message"}))
    status = _struct(
        {"current": entry, "history": {"type": "array", "nullable": True, "items": entry}}, required=["current"]
    )
    credentials = _struct({name: {**_VALUE, "nullable": True} for name in ("username", "token", "ssh")})
    repository = _struct({"url": _TEXT, "credentials": {**credentials, "nullable": True}}, required=["url"])
    source = {"repository": repository, "fileToDecrypt": _TEXT, "sopsPath": _TEXT}
    provider = {
        name: {**_struct(dict.fromkeys(fields, _VALUE), required=fields), "nullable": True}
        for name, fields in providers.items()
    }
    provider["vault"] = {"type": "object", "nullable": True}
    spec = _struct(
        {"provider": _struct(provider), "source": _struct(source, required=sorted(source))},
        required=["provider", "source"],
    )
    whole = _struct({"spec": spec, "status": {**status, "nullable": True}}, required=["spec"])
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [],
        "schema": {"openAPIV3Schema": {**whole, "title": "Decryptor"}},
        "subresources": {"status": {}},
    }
    names = {
        "kind": "Decryptor",
        "plural": "decryptors",
        "singular": "decryptor",
        "categories": [],
        "shortNames": [],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "decryptors.jiemi.cr"},
        "spec": {"group": "jiemi.cr", "names": names, "scope": "Namespaced", "versions": [version]},
    }


_TEXT: dict[str, Any] = {"type": "string"}


def _struct(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties}
    return {**made, "required": required} if required else made


_VALUE = _struct({name: {**_TEXT, "nullable": True} for name in ("key", "literal", "secretName")})


def workloads() -> list[Manifest]:
    """All but the definition, and the namespace, which users made by `kubectl create namespace`."""
    account = {"kind": "ServiceAccount", "name": "jiemi-account", "namespace": NAMESPACE}
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "jiemi-role"}
    rule = {
        "apiGroups": ["", "jiemi.cr"],
        "resources": ["*"],
        "verbs": ["get", "list", "watch", "create", "update", "patch"],
    }
    ports = [{"port": 50208, "name": "rpc", "targetPort": 50208}]
    repository = {
        **_container("repository", "marci/krapao:latest"),
        "ports": [{"containerPort": 50208, "name": "rpc"}],
        "volumeMounts": [{"name": "data", "mountPath": "/workspace/repo"}],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "500Mi"}}},
    }
    controller = {
        "serviceAccountName": "jiemi-account",
        "containers": [_container("controller", "marci/miwen:latest")],
    }
    return [
        {**_named(f"{_RBAC}/v1", "ClusterRole", "jiemi-role"), "rules": [rule]},
        {**_named(f"{_RBAC}/v1", "ClusterRoleBinding", "jiemie-role-binding"), "subjects": [account], "roleRef": role},
        _named("v1", "ServiceAccount", "jiemi-account", namespaced=True),
        _workload("Deployment", "miwen", "controller", controller),
        {
            **_named("v1", "Service", "repository-svc", namespaced=True, workload="repository"),
            "spec": {"ports": ports, "selector": {"workload": "repository"}},
        },
        _workload(
            "StatefulSet",
            "repository",
            "repository",
            {"containers": [repository]},
            serviceName="repository-svc",
            volumeClaimTemplates=[claim],
        ),
    ]


_RBAC = "rbac.authorization.k8s.io"


def _named(version: str, kind: str, name: str, *, namespaced: bool = False, workload: str = "") -> Manifest:
    metadata: dict[str, Any] = {"name": name}
    if namespaced:
        metadata["namespace"] = NAMESPACE
    if workload:
        metadata["labels"] = {"workload": workload}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _container(name: str, image: str) -> dict[str, Any]:
    environment = [{"name": "MODE", "value": "release"}]
    return {
        "name": name,
        "image": image,
        "env": environment,
        "resources": {"limits": _LIMITS, "requests": _LIMITS},
    }


def _workload(kind: str, name: str, workload: str, pod: dict[str, Any], **more: Any) -> Manifest:
    labels = {"workload": workload}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template, **more}
    return {**_named("apps/v1", kind, name, namespaced=True, workload=workload), "spec": spec}


def record(number: int, revision: str, file: str) -> dict[str, Any]:
    """An entry of a status as the first version wrote it."""
    return {
        "id": number,
        "revision": revision,
        "file_to_decrypt": file,
        "deployed_at": f"2022-03-{number:02d}T20:37:59.024362965+00:00",
        "status": "Sync",
        "error_message": None,
    }


def deploy(account: ApiServer, decryptor: Manifest, wanted: Manifest, revision: str, *, times: int = 1) -> None:
    """Do to a cluster what the first version does for a Decryptor: apply its one object, and write the status.

    It creates an object that is not there, by a client that sends no name (`unknown` then), and applies one that is,
    as `miwen` and by force. The status goes on from the stored one.

    Args:
        account: the API server as `jiemi-account`.
        wanted: the decrypted object.
        revision: the commit.
        times: how often it has seen a new commit.
    """
    place = account.path_of(wanted)
    at = account.path_of(decryptor)
    for _ in range(times):
        if account.call("GET", place).status == 404:
            account.call("POST", f"{place.rpartition('/')[0]}?fieldManager=unknown", wanted).ok()
        else:
            query = "?fieldManager=miwen&force=true"
            account.call("PATCH", place + query, wanted, "application/apply-patch+yaml").ok()
        before = account.call("GET", at).ok().get("status") or {}
        last = before.get("current")
        made = record(last["id"] + 1 if last else 1, revision, decryptor["spec"]["source"]["fileToDecrypt"])
        history = [*(before.get("history") or ()), *([last] if last else [])]
        body = {"status": {"current": made, "history": history or None}}
        account.call("PATCH", f"{at}/status", body, "application/merge-patch+json").ok()
