"""The generated tables of docs/: the API's fields and the reasons. `just docs` puts them there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jiemi.core.api.crd import crd
from jiemi.core.reasons import REASONS

_CREDENTIAL_FIELDS = {"literal", "secretName", "key"}


def api_table() -> str:
    """Every field of a Decryptor's spec and status, as a Markdown table."""
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    rows = ["| field | what it is |", "| --- | --- |"]
    for name in ("spec", "status"):
        rows += [f"| `{path}` | {text} |" for path, text in _fields(root[name], name)]
    return "\n".join(rows) + "\n"


def _fields(schema: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        path = f"{at}.{name}"
        description = inner["description"] + (" Required." if name in required and at.startswith("spec") else "")
        if set(inner.get("properties", ())) == _CREDENTIAL_FIELDS:
            yield path, f"{description} A *value*."
        elif inner.get("type") == "array" and "properties" in inner["items"]:
            fields = inner["items"]["properties"]
            what = "Each is a *value*." if set(fields) == _CREDENTIAL_FIELDS else f"Fields: {_listed(fields)}."
            yield f"{path}[]", f"{description} {what}"
        elif "properties" in inner:
            yield path, description
            yield from _fields(inner, path)
        else:
            yield path, description


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def reasons_table() -> str:
    """Every reason with its kind, meaning and remedy, as a Markdown table."""
    rows = ["| reason | kind | what it means | what to do |", "| --- | --- | --- | --- |"]
    rows += [f"| `{name}` | {info.kind.value} | {info.meaning} | {info.remedy} |" for name, info in REASONS.items()]
    return "\n".join(rows) + "\n"


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The text with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced by the table of that name.

    Raises:
        ValueError: a pair of marks is missing.
    """
    for name, table in tables.items():
        before, opening, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        if not opening or not closing:
            raise ValueError(f"the marks of the table {name} are missing")
        text = before + opening + table + closing + after
    return text
