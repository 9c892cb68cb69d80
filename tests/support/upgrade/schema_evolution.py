"""What two peers of a Cap'n Proto schema must agree on, so that a later schema can be held to an earlier one.

`promises` is a flat table: one entry for each field, enumerant, method and constant, named by its number, with all that
decides how it is written: its name, its type, its place, the union that it is a member of, and its default. A later
schema keeps each entry of an earlier one as it is, and may add some
(https://capnproto.org/language.html#evolving-your-protocol). Renaming is no break on the wire, but is counted as one,
because Python finds fields by their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import capnp
from support.paths import ROOT

FROZEN = ROOT / "tests" / "data" / "schema"
"""Schemas of earlier states, as they were. CONTRIBUTING.md says when there is another one."""

CURRENT = ROOT / "schema" / "krapao.capnp"
_NO_UNION = 65535
Promise = tuple[str, str]


def frozen() -> list[Path]:
    """The frozen schemas, the oldest first."""
    return sorted(FROZEN.glob("krapao-*.capnp"))


def load(path: Path) -> Any:
    """A schema, beside others of the same id in this process."""
    return capnp.SchemaParser().load(str(path))


def promises(path: Path) -> dict[str, str]:
    """What a schema promises to peers."""
    module = load(path)
    return dict(entry for nested in module.schema.node.nestedNodes for entry in _node(module, nested.name))


def broken(earlier: dict[str, str], later: dict[str, str]) -> list[str]:
    """The promises of an earlier schema that a later one does not keep, as sentences."""
    return [
        f"{what} was {promise}, and is {later.get(what, 'gone')}"
        for what, promise in earlier.items()
        if later.get(what) != promise
    ]


def _node(module: Any, name: str) -> Iterator[Promise]:
    found = getattr(module, name)
    if not hasattr(found, "schema"):
        yield f"constant {name}", repr(found)
        return
    schema = found.schema
    kind = schema.node.which()
    if kind == "struct":
        yield from _struct(name, schema)
    elif kind == "enum":
        yield from ((f"{name} @{number}", each) for each, number in schema.enumerants.items())
    elif kind == "interface":
        for number, method in enumerate(schema.node.interface.methods):
            yield f"{name} @{number}", str(method.name)
            made = schema.methods[method.name]
            yield from _struct(f"parameters of {name} @{number}", made.param_type)
            yield from _struct(f"results of {name} @{number}", made.result_type)
    else:
        raise AssertionError(f"teach the comparison about {kind}")


def _struct(name: str, schema: Any) -> Iterator[Promise]:
    for field in schema.fields.values():
        proto = field.proto
        member = "" if proto.discriminantValue == _NO_UNION else f", member {proto.discriminantValue} of the union"
        if proto.which() == "group":
            yield f"{name} group {proto.name}", f"a group{member}"
            yield from _struct(f"{name}.{proto.name}", field.schema)
            continue
        slot = proto.slot
        number = proto.ordinal.explicit if proto.ordinal.which() == "explicit" else proto.codeOrder
        default = slot.defaultValue.which(), _plain(slot.defaultValue)
        yield f"{name} @{number}", f"{proto.name} :{_type(slot.type)} at {slot.offset}, {default}{member}"
    node = schema.node.struct
    if node.discriminantCount:
        yield f"union of {name}", f"at {node.discriminantOffset}"


def _type(made: Any) -> str:
    kind = made.which()
    if kind == "list":
        return f"List({_type(made.list.elementType)})"
    inner = getattr(made, kind)
    return f"{kind} {inner.typeId:x}" if kind in {"struct", "enum", "interface"} else str(kind)


def _plain(value: Any) -> str:
    kind = value.which()
    return "" if kind in {"list", "struct", "interface", "anyPointer"} else str(getattr(value, kind))
