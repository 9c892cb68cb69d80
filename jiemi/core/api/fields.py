"""Fields of the Kubernetes API, written once.

A class of `jiemi.core.api.spec` declares each field with `api(...)`: its description, its name in JSON and its
bounds. Both readers take them from there: the converter that makes a Decryptor of JSON (`structure`), and the generator
of the CustomResourceDefinition (`jiemi.core.api.crd`). So the two can't disagree.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import ClassValidationError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from jiemi.core.sensitive import SensitiveText

T = TypeVar("T")

_META = "jiemi.api"


@attrs.frozen
class Rule:
    """A CEL rule of the CustomResourceDefinition (x-kubernetes-validations): what a schema alone can't say."""

    rule: str
    message: str


def given(name: str) -> str:
    """CEL for whether a field that may be null is given."""
    return f"(has(self.{name}) && dyn(self.{name}) != null)"


def contradiction(one: str, other: str) -> Rule:
    """A rule: not both of two fields that may be null."""
    return Rule(f"!({given(one)} && {given(other)})", f"{one} contradicts {other}: give one or the other")


def together(first: str, second: str) -> Rule:
    """A rule: neither or both of two fields that may be null."""
    return Rule(f"{given(first)} == {given(second)}", f"give {first} together with {second}, or neither")


@attrs.frozen
class ApiField:
    """What a field is in the API, beside its Python type."""

    description: str
    json_name: str | None
    bounds: Mapping[str, Any]
    nullable: bool


def api(
    description: str,
    *,
    default: Any = attrs.NOTHING,
    json_name: str | None = None,
    nullable: bool = False,
    **bounds: Any,
) -> Any:
    """A field of an API class.

    Args:
        description: a noun phrase or sentence that stands alone, for `kubectl explain`.
        default: makes the field optional.
        json_name: where it is not the Python name in camelCase.
        nullable: whether an explicit null is accepted (as the first version's fields do).
        bounds: further keywords of the OpenAPI schema: minLength, maximum, enum, format, …
    """
    return attrs.field(default=default, metadata={_META: ApiField(description, json_name, bounds, nullable)})


def api_field(attribute: attrs.Attribute[Any]) -> ApiField:
    """The arguments of `api` for the attribute."""
    found = attribute.metadata.get(_META)
    if not isinstance(found, ApiField):
        raise TypeError(f"{attribute.name} is not declared with api(...)")
    return found


def json_name(attribute: attrs.Attribute[Any]) -> str:
    """The attribute's name in JSON."""
    given = api_field(attribute).json_name
    if given is not None:
        return given
    head, *tail = attribute.name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def api_attributes(cls: type) -> list[tuple[attrs.Attribute[Any], Any]]:
    """The attributes of an API class with their resolved types, in order."""
    hints = get_type_hints(cls)
    return [(attribute, hints[attribute.name]) for attribute in attrs.fields(cls)]


def without_none(hint: Any) -> tuple[Any, bool]:
    """The type without its None, and whether it had one."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


class FieldError(ValueError):
    """A value does not fit its field. The text names the field's path and never quotes the value.

    Attributes:
        remedy: what to do, where the text does not say it.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


def structure(value: Any, cls: type[T], at: str) -> T:
    """Read an API class from JSON.

    Args:
        value: the JSON value.
        cls: an attrs class whose fields are declared with `api`.
        at: path of the value, for the errors: "spec".

    Raises:
        FieldError: the first thing that is wrong, with its path: "required field missing @ spec.source.repository.url".
    """
    try:
        return _CONVERTER.structure(value, cls)
    except Exception as error:  # noqa: BLE001 - cattrs lets every hook's own error through
        raise FieldError(*_describe(error, at)) from None


def unstructure(value: Any) -> Any:
    """The JSON form of an API class; fields that are None or an empty list by default are left out
    unless they are nullable."""
    return _CONVERTER.unstructure(value)


def _describe(error: BaseException, at: str) -> tuple[str, str]:
    """The first leaf of a cattrs error tree, as "what is wrong @ path", and what to do."""
    if isinstance(error, ClassValidationError):
        with_notes, without_notes = error.group_exceptions()
        if with_notes:
            inner, note = with_notes[0]
            name = _json_name_of(note.name, error.cl)
            return _describe(inner, f"{at}.{name}")
        return _describe(without_notes[0], at)
    if isinstance(error, IterableValidationError):
        with_notes_iterable, _ = error.group_exceptions()
        inner, iterable_note = with_notes_iterable[0]
        return _describe(inner, f"{at}[{iterable_note.index}]")
    if isinstance(error, KeyError):
        return f"required field missing @ {at}", "Add that field."
    if isinstance(error, FieldError):
        what, _, field = str(error).partition(" @ ")  # a class may name the one of its fields that is wrong
        return f"{what} @ {at}.{field}" if field else f"{what} @ {at}", error.remedy
    return f"the value does not have the form that the field wants @ {at}", ""


def _json_name_of(python_name: str, cls: type) -> str:
    for attribute in attrs.fields(cls):
        if attribute.name == python_name:
            return json_name(attribute)
    return python_name


def _exact(kind: type, word: str) -> Any:
    def structure_exact(value: Any, _: type) -> Any:
        if type(value) is not kind:
            raise FieldError(f"must be {word}")
        return value

    return structure_exact


def _is_list(hint: Any) -> bool:
    origin: Any = get_origin(hint)
    return origin is tuple


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook(str, _exact(str, "a string"))
    converter.register_structure_hook(int, _exact(int, "a whole number"))
    converter.register_structure_hook(bool, _exact(bool, "true or false"))

    def sensitive(value: Any, _: type) -> SensitiveText:
        if type(value) is not str:
            raise FieldError("must be a string")
        return SensitiveText.shared(value)

    converter.register_structure_hook(SensitiveText, sensitive)
    converter.register_unstructure_hook(SensitiveText, lambda value: value.reveal())

    def list_hook(hint: Any) -> Any:
        inner = homogenous_tuple_structure_factory(hint, converter)

        def structure_list(value: Any, target: Any) -> Any:
            if not isinstance(value, list):  # a text would be a list of its characters
                raise FieldError("must be a list")
            return inner(value, target)

        return structure_list

    def structure_hook(cls: Any) -> Any:
        overrides: dict[str, Any] = {
            attribute.name: override(rename=json_name(attribute)) for attribute in attrs.fields(cls)
        }
        inner = make_dict_structure_fn(cls, converter, **overrides)

        def structure_mapping(value: Any, target: Any) -> Any:
            if not isinstance(value, Mapping):
                raise FieldError("must be an object")
            return inner(value, target)

        return structure_mapping

    def unstructure_hook(cls: Any) -> Any:
        overrides: dict[str, Any] = {
            attribute.name: override(
                rename=json_name(attribute),
                omit_if_default=not api_field(attribute).nullable and attribute.default in (None, ()),
            )
            for attribute in attrs.fields(cls)
        }
        return make_dict_unstructure_fn(cls, converter, **overrides)

    converter.register_structure_hook_factory(_is_list, list_hook)
    converter.register_structure_hook_factory(attrs.has, structure_hook)
    converter.register_unstructure_hook_factory(attrs.has, unstructure_hook)
    return converter


_CONVERTER = _make_converter()
