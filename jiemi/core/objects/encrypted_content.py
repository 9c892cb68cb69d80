"""What may come of encrypted content: no ciphertext in the cluster, and no plaintext where ciphertext is meant to stay.

Two rules hold for each object before it is applied.

Ciphertext of SOPS in an object is refused, wherever it is: what reads the object would take it for the value. Values of
Secrets that are whole SOPS files are decrypted before (`NESTED_SECRETS`), so what is left is a mistake. Whoever means
the ciphertext itself, because a program in the cluster decrypts it, says so by the annotation `CIPHERTEXT_ANNOTATION`.

Decrypted objects of the API's own kinds are applied, as in the first version: whoever encrypts a whole Deployment
means that. Of a custom resource nobody here knows what its operator does with a value in clear, or who may read it;
where a glob merely met such a file, nobody has said that it is meant. So it needs the file's own name in the spec, or
its kind in `spec.encryptedKinds`. Kinds of operators that decrypt SOPS files themselves are never meant, whoever
names the file.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jiemi.core.content.ciphertext import find_ciphertext, shown
from jiemi.core.errors import Failure
from jiemi.core.objects.manifests import Manifest

CIPHERTEXT_ANNOTATION, KEEP = "jiemi.cr/ciphertext", "keep"
"""An object with this annotation is applied with the ciphertext that is in it."""

_BUILT_IN = frozenset(
    f"{name}.k8s.io"
    for name in (
        *("admissionregistration", "apiextensions", "apiregistration", "authentication", "authorization"),
        *("certificates", "coordination", "discovery", "events", "flowcontrol.apiserver", "internal.apiserver"),
        *("metrics", "networking", "node", "rbac.authorization", "resource", "scheduling", "storage"),
        "storagemigration",
    )
)
"""API groups with a dot in their name that are Kubernetes' own; those without one all are
(https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/)."""

_SOPS_KINDS = frozenset({"SopsSecret", "GlobalSopsSecret"})
"""Of the operators of isindir.github.com, addons.projectcapsule.dev and craftypath.github.io."""


def ciphertext_in(manifest: Manifest) -> Failure | None:
    """Why an object may not be applied because of ciphertext in it; None where there is none, or it is meant."""
    if keeps_ciphertext(manifest.body):
        return None
    path = find_ciphertext(manifest.body)
    if path is None:
        return None
    files = ", ".join(manifest.sources)
    remedy = (
        "Put a whole SOPS file there, which is decrypted, or encrypt the manifest as a whole"
        if (manifest.api_version, manifest.kind) == ("v1", "Secret")
        else "Encrypt the manifest as a whole, or make it a Secret: in plain manifests, only values of Secrets are "
        "decrypted, and only those that are whole SOPS files"
    )
    return Failure(
        "CiphertextLeft",
        f"{manifest.label} (document {manifest.document} of {files}): {shown(path)} holds ciphertext of SOPS, which "
        "the cluster would take for the value",
        f'{remedy}; if the ciphertext itself is meant, annotate the object with {CIPHERTEXT_ANNOTATION}: "{KEEP}".',
    )


def keeps_ciphertext(body: Any) -> bool:
    """Whether an object says that the ciphertext in it is meant."""
    metadata = body.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return isinstance(annotations, dict) and annotations.get(CIPHERTEXT_ANNOTATION) == KEEP


def kind_objection(manifest: Manifest, *, named: bool, allowed: Collection[str]) -> Failure | None:
    """Why an object of a decrypted file may not be applied because of its kind; None where it may.

    Args:
        named: whether the spec names the file, and not only a glob that it matches.
        allowed: spec.encryptedKinds, each as KIND.GROUP.
    """
    group, kind = manifest.group_kind
    if "." not in group or group in _BUILT_IN or f"{kind}.{group}" in allowed:
        return None
    where = f"{manifest.label} of {group} (document {manifest.document} of {manifest.file})"
    if kind in _SOPS_KINDS:
        return Failure(
            "KindNotForSecrets",
            f"{where} is for an operator that decrypts SOPS files itself; Jiemi would put the decrypted values into it "
            "in clear",
            "Leave the file to that operator by spec.source.exclude, or make a Secret of it.",
        )
    if named:
        return None
    return Failure(
        "KindNotForSecrets",
        f"{where} is a custom resource, which would hold the decrypted values in clear, and only a glob matches its "
        "file",
        f"Exclude the file by spec.source.exclude; if it is meant, name it in spec.source.files, or list "
        f"{kind}.{group} in spec.encryptedKinds.",
    )
