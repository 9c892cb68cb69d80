"""What a document must have to be a Kubernetes object, and what to do where it has not.

A document may be decrypted text in any of its places, so nothing of it is quoted: the messages name its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from jiemi.core.content.ciphertext import ENCRYPTED
from jiemi.core.errors import JiemiError
from jiemi.core.names import NAMESPACE_RULE, is_api_version, is_kind, is_namespace_name, is_object_name, name_rule
from jiemi.core.objects.identity import group_of

_NAME_CHARACTERS = 253
_KIND_CHARACTERS = 63
_API_VERSION_CHARACTERS = 253 + 1 + 63
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/names/: no object can have a longer one, and what
Jiemi remembers of an object must have a bound."""

_OR_TARGET = "or set spec.target, which makes a Secret or ConfigMap of what the file holds"
_VERSION_RULE = "it is GROUP/VERSION, or a version alone for the core group: apps/v1, v1"
_KIND_RULE = "it is letters and digits, beginning with a letter: ConfigMap"


def require_kind(value: Any, where: str) -> None:
    """Refuse what names no apiVersion and kind.

    Args:
        where: the document's place, for the message.

    Raises:
        JiemiError: NotAKubernetesObject.
    """
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "a single value"
        _refuse(
            f"{where} is {what}, not a mapping",
            f"Write each object as a document of its own, with apiVersion, kind and metadata.name; {_OR_TARGET}.",
        )
    missing = [field for field in ("apiVersion", "kind") if not isinstance(value.get(field), str) or not value[field]]
    if len(missing) == 2:
        _refuse(f"{where} has no apiVersion and no kind", f"Add both, and metadata.name; {_OR_TARGET}.")
    if missing:
        _refuse(f"{where} has no {missing[0]}", f"Add {missing[0]} to it.")


def require_names(value: Mapping[str, Any], where: str) -> None:
    """Refuse what names no object that there can be.

    Args:
        value: with apiVersion and kind.
        where: the document's place, for the message.

    Raises:
        JiemiError: NotAKubernetesObject.
    """
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        _refuse_without_name(metadata, where)
    for field, text, limit in (
        ("apiVersion", value["apiVersion"], _API_VERSION_CHARACTERS),
        ("kind", value["kind"], _KIND_CHARACTERS),
        ("metadata.name", metadata["name"], _NAME_CHARACTERS),
    ):
        if len(text) > limit:
            _refuse(f"{field} of {where} has more than {limit} characters", f"Give it a shorter {field}.")
    namespace = metadata.get("namespace") or ""
    if not isinstance(namespace, str):
        _refuse(f"metadata.namespace of {where} is no text", "Put the namespace's name in quotes.")
    group, kind = group_of(value["apiVersion"]), value["kind"]
    is_name = is_object_name(metadata["name"], group=group, kind=kind)
    _require("apiVersion", value["apiVersion"], is_api_version(value["apiVersion"]), where, _VERSION_RULE)
    _require("kind", kind, is_kind(kind), where, _KIND_RULE)
    _require("metadata.name", metadata["name"], is_name, where, name_rule(group=group, kind=kind))
    _require("metadata.namespace", namespace, not namespace or is_namespace_name(namespace), where, NAMESPACE_RULE)


def _refuse_without_name(metadata: Any, where: str) -> NoReturn:
    if isinstance(metadata, dict) and metadata.get("generateName") is not None:
        _refuse(
            f"{where} has metadata.generateName and no metadata.name: each apply would make another object",
            "Give it metadata.name in place of metadata.generateName.",
        )
    if isinstance(metadata, dict) and isinstance(metadata.get("name"), int | float):
        _refuse(f"metadata.name of {where} is a number or true or false, and no text", "Put the name in quotes.")
    if metadata is not None and not isinstance(metadata, dict):
        what = "a list" if isinstance(metadata, list) else "a single value"
        _refuse(f"metadata of {where} is {what}, not a mapping", "Write it as NAME: VALUE, with the object's name.")
    _refuse(f"{where} has no metadata.name", "Add metadata.name to it.")


def _require(field: str, text: str, is_possible: bool, where: str, rule: str) -> None:
    if is_possible:
        return
    if text.startswith(ENCRYPTED):
        _refuse(
            f"{field} of {where} is ciphertext of SOPS",
            "Encrypt the values alone: encrypted_regex: ^(data|stringData)$ in the .sops.yaml.",
        )
    # Until it is a name that an object can have it is decrypted text, which is never shown.
    _refuse(
        f"{field} of {where} is none that an object can have (it may be encrypted text, so it is not shown)",
        f"Correct {field}: {rule}.",
    )


def _refuse(what: str, remedy: str) -> NoReturn:
    raise JiemiError("NotAKubernetesObject", what, remedy)
