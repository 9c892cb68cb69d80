"""A file that holds no Kubernetes objects -> the Secret or ConfigMap that it becomes (`spec.target`).

A dotenv file gives a key for each variable, a YAML or JSON file one for each text on its top; any other file, and any
file where `spec.target.key` names one, is put whole under one key.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jiemi.core.api.file_formats import FORMAT_FIELD, FormatOfFile
from jiemi.core.api.spec import TargetSpec
from jiemi.core.content.formats import Format, ending_in_capitals
from jiemi.core.errors import JiemiError
from jiemi.core.objects.manifests import Manifest, look_like_objects
from jiemi.core.sensitive import SensitiveBytes

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
"""https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data"""

_KINDS = {dict: "a mapping", list: "a list", type(None): "null"}

_OF_OBJECTS = (Format.YAML, Format.JSON)


def require_form(target: TargetSpec | None, path: str, format: FormatOfFile) -> None:
    """Refuse a file that can hold no Kubernetes objects where no target is given.

    Args:
        format: the file's format.

    Raises:
        JiemiError: UnknownFormat.
    """
    if target is not None or may_hold_objects(format.format):
        return
    if format.field is not None:
        raise JiemiError(
            "UnknownFormat",
            f"{path}: {format.field} states that it is {format.format.value}, which holds no Kubernetes objects",
            f"State yaml or json in {format.field} where it holds some, or give spec.target to make a Secret or "
            "ConfigMap of it.",
        )
    if (ending := ending_in_capitals(path)) is not None:
        raise JiemiError(
            "UnknownFormat",
            f"{path} ends in {ending}: sops and Jiemi know formats by endings in lower case only, so it counts as "
            "bytes, which hold no Kubernetes objects",
            f"Rename it to {ending.lower()} and encrypt it again, or give spec.target; or state in {FORMAT_FIELD} with "
            "which --input-type it was encrypted.",
        )
    raise JiemiError(
        "UnknownFormat",
        f"{path} ends in none of .yaml, .yml and .json, so its name does not say that it holds Kubernetes objects",
        f"State yaml or json in {FORMAT_FIELD} if it does, or give spec.target to make a Secret or ConfigMap of it.",
    )


def may_hold_objects(format: Format) -> bool:
    """Whether a format is one that Kubernetes objects are written in."""
    return format in _OF_OBJECTS


def wants_whole_file(target: TargetSpec | None, format: Format) -> bool:
    """Whether the decrypted file itself is needed, rather than the values in it."""
    return target is not None and (target.key is not None or format in (Format.INI, Format.BINARY))


def target_values(
    target: TargetSpec, *, path: str, documents: Sequence[SensitiveBytes], content: SensitiveBytes | None
) -> dict[str, SensitiveBytes]:
    """The keys that a file gives a target, with their values.

    Args:
        path: the file's path.
        documents, content: what Krapao rendered; the content where `wants_whole_file`.

    Raises:
        JiemiError: UnknownFormat, InvalidSpec.
    """
    if content is not None:
        return {_key_of(target, path): content}
    return {key: SensitiveBytes(value) for key, value in _values(documents, path).items()}


def target_manifest(target: TargetSpec, files: Mapping[str, Mapping[str, SensitiveBytes]]) -> Manifest:
    """The object that files become.

    Args:
        files: the keys and values of each file (`target_values`), by its path.

    Raises:
        JiemiError: DuplicateObject, naming the files that both give a key.
    """
    values: dict[str, bytes] = {}
    given: dict[str, str] = {}
    for path, keys in files.items():
        for key, value in keys.items():
            if key in given:
                raise JiemiError(
                    "DuplicateObject",
                    f"{given[key]} and {path} both give the key {key} of {target.kind} {target.name}",
                    "Take the key out of one of the two, or that file out of spec.source.files by exclude.",
                )
            given[key], values[key] = path, value.reveal()
    metadata: dict[str, Any] = {"name": target.name}
    for name in ("labels", "annotations"):
        if getattr(target, name):
            metadata[name] = dict(getattr(target, name))
    body: dict[str, Any] = {"apiVersion": "v1", "kind": target.kind, "metadata": metadata}
    if target.kind == "Secret":
        body["data"] = {key: base64.b64encode(value).decode() for key, value in values.items()}
        if target.type is not None:
            body["type"] = target.type
    else:
        body |= _config_map(values)
    return Manifest(body, 1, next(iter(files), ""), tuple(files))


def _key_of(target: TargetSpec, path: str) -> str:
    if target.key is not None:
        return target.key
    name = path.rsplit("/", 1)[-1]
    name = name.removesuffix(".enc") if name.endswith(".enc") else name.replace(".enc.", ".")
    if _KEY.fullmatch(name) is None:
        raise JiemiError(
            "InvalidSpec",
            f"{path} has no name that can be a key (letters, digits, -, _ and . only)",
            "Give spec.target.key.",
        )
    return name


def _values(documents: Sequence[SensitiveBytes], path: str) -> dict[str, bytes]:
    found = json.loads(documents[0].reveal()) if len(documents) == 1 else None
    if documents and look_like_objects(documents):
        raise JiemiError(
            "UnknownFormat",
            f"{path} holds Kubernetes objects (apiVersion and kind), and spec.target would make values of its fields",
            "Take spec.target out: what the file describes is applied as it is. To keep the file itself in a key, set "
            "spec.target.key.",
        )
    if not isinstance(found, dict):
        what = f"has {len(documents)} documents" if len(documents) != 1 else "is no mapping"
        raise JiemiError(
            "UnknownFormat",
            f"{path} {what}, and spec.target without key needs one mapping of texts",
            "Write it as NAME: VALUE, or set spec.target.key to keep the file whole under one key.",
        )
    values: dict[str, bytes] = {}
    for number, (key, value) in enumerate(found.items(), start=1):
        if _KEY.fullmatch(key) is None:
            raise JiemiError(
                "UnknownFormat",
                # It is no name of anything, and in a file of another form it may be a value.
                f"{path} has a name that can be no key (letters, digits, -, _ and . only): that of value {number}",
                "Rename it, or set spec.target.key to keep the file whole under one key.",
            )
        if isinstance(value, dict | list) or value is None:
            raise JiemiError(
                "UnknownFormat",
                f"{path}: the value of {key} is no text but {_KINDS[type(value)]}",
                "Write it as a text, or set spec.target.key to keep the file whole under one key.",
            )
        values[key] = (value if isinstance(value, str) else json.dumps(value)).encode()
    return values


def _config_map(values: Mapping[str, bytes]) -> dict[str, Any]:
    texts: dict[str, str] = {}
    others: dict[str, str] = {}
    for key, value in values.items():
        try:
            texts[key] = value.decode()
        except UnicodeDecodeError:
            others[key] = base64.b64encode(value).decode()
    return {"data": texts, **({"binaryData": others} if others else {})}
