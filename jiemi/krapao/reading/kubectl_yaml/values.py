"""Nodes -> values that JSON has, as go.yaml.in/yaml/v2 v2.4.4 (decode.go) and sigs.k8s.io/yaml v1.6.0 make them.

Aliases are followed again each time, and everything that is built is counted before it is. Merge keys (`<<`) are
carried
out where they stand: they replace what stood before them, and what stands behind them replaces theirs.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from jiemi.core.content.document_limits import MAX_DEPTH, MAX_NODES
from jiemi.krapao.reading.kubectl_yaml.cursor import Refused, over
from jiemi.krapao.reading.kubectl_yaml.parser import ALIAS, MAPPING, SCALAR, SEQUENCE, Node
from jiemi.krapao.reading.kubectl_yaml.scalars import MERGE, Unfit, key_text, number_for_json, resolve

KEY_TWICE = "the same key twice in one mapping"
KEY_NO_SCALAR = "a key that is a list or a mapping"
ONE_OF_TWO = "Take one of the two out; kubectl would take the last."

_MOST_FROM_ALIASES = 0.99
"""Of all that is decoded; above it kubectl's library refuses a document (allowedAliasRatio in decode.go)."""


def value_of(root: Node, *, max_bytes: int, max_values: int = MAX_NODES) -> Any:
    """The value of a document: None, or what json writes.

    Args:
        max_bytes: the most characters that aliases may repeat.
        max_values: the most values, as in `parse`.

    Raises:
        Refused: UnknownFormat, LimitExceeded.
    """
    return _Decoder(max_bytes, max_values).value(root)


class _Decoder:
    def __init__(self, max_bytes: int, max_values: int) -> None:
        self._max_values = max_values
        self._characters_left = max_bytes
        self._count = 0
        self._aliased = 0
        self._alias_depth = 0
        self._depth = 0
        self._following: set[int] = set()

    def value(self, node: Node) -> Any:
        self._count_one(node)
        kind = node[0]
        if kind == SCALAR:
            found = self._scalar(node)
            if type(found) is float:
                if not math.isfinite(found):
                    _refuse(node, "NaN or an infinity, which JSON has no number for")
                return number_for_json(found)
            return found
        if kind == ALIAS:
            return self._through_alias(node, self.value)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused("LimitExceeded", f"nested deeper than {MAX_DEPTH}", node[1])
        if kind == SEQUENCE:
            made: Any = [self.value(item) for item in node[2]]
        else:
            made = {}
            self._fill(node, made, {})
        self._depth -= 1
        return made

    def _count_one(self, node: Node) -> None:
        self._count += 1
        if self._alias_depth:
            self._aliased += 1
            if self._aliased > 100 and self._count > 1000 and self._aliased / self._count > _MOST_FROM_ALIASES:
                raise Refused("LimitExceeded", "nearly all of it comes from aliases", node[1])
        if self._count > self._max_values:
            raise over(self._max_values, ", aliases counted in full", node[1])

    def _scalar(self, node: Node) -> Any:
        _, _, text, tag, plain = node
        if self._alias_depth:
            self._characters_left -= len(text)
            if self._characters_left < 0:
                raise Refused("LimitExceeded", "its aliases repeat too much text", node[1])
        if not tag and not plain:
            return text
        try:
            found = resolve(text, tag, plain)
        except Unfit as error:
            what = str(error)
        else:
            return found
        raise Refused("UnknownFormat", what, node[1], ONE_OF_TWO if what == KEY_TWICE else "")

    def _through_alias(self, node: Node, then: Any, *arguments: Any) -> Any:
        number = id(node)
        if number in self._following:
            _refuse(node, "an alias that contains itself")
        self._following.add(number)
        self._alias_depth += 1
        made = then(node[2], *arguments)
        self._alias_depth -= 1
        self._following.discard(number)
        return made

    def _fill(self, node: Node, made: dict[str, Any], kinds: dict[str, Any]) -> None:
        """Put the keys and values of a mapping in.

        Args:
            kinds: for the keys that are no text: their type and value.
        """
        given: set[str] = set()
        children = node[2]
        for number in range(0, len(children), 2):
            key_node, value_node = children[number], children[number + 1]
            if key_node[0] == SCALAR and key_node[2] == "<<" and (key_node[4] or key_node[3] == MERGE):
                self._merge(value_node, made, kinds)
                continue
            key = self._key(key_node)
            name = key if type(key) is str else key_text(key)
            if name is None:
                _refuse(key_node, "a key that can't be made a text")
            value = self.value(value_node)
            if name in given:
                _refuse(key_node, KEY_TWICE)
            if type(key) is not str or kinds:
                kind = None if type(key) is str else (type(key), repr(key))
                if name in made and kinds.get(name) != kind:
                    _refuse(key_node, KEY_TWICE)
                kinds[name] = kind
            given.add(name)
            made[name] = value

    def _key(self, node: Node) -> Any:
        self._count_one(node)
        if node[0] == ALIAS:
            return self._through_alias(node, self._key)
        if node[0] != SCALAR:
            _refuse(node, KEY_NO_SCALAR)
        return self._scalar(node)

    def _merge(self, node: Node, made: dict[str, Any], kinds: dict[str, Any]) -> None:
        if node[0] == SEQUENCE:
            for item in reversed(node[2]):
                self._merge_one(item, made, kinds)
        else:
            self._merge_one(node, made, kinds)

    def _merge_one(self, node: Node, made: dict[str, Any], kinds: dict[str, Any]) -> None:
        aliased = node[2] if node[0] == ALIAS else node
        if aliased[0] != MAPPING:
            _refuse(node, "a merge key (<<) whose value is no mapping")
        self._count_one(node)
        if node[0] == ALIAS:
            self._through_alias(node, self._merged, made, kinds)
        else:
            self._fill_deeper(node, made, kinds)

    def _merged(self, node: Node, made: dict[str, Any], kinds: dict[str, Any]) -> None:
        self._count_one(node)
        self._fill_deeper(node, made, kinds)

    def _fill_deeper(self, node: Node, made: dict[str, Any], kinds: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused("LimitExceeded", f"nested deeper than {MAX_DEPTH}", node[1])
        self._fill(node, made, kinds)
        self._depth -= 1


def _refuse(node: Node, what: str) -> NoReturn:
    raise Refused("UnknownFormat", what, node[1], ONE_OF_TWO if what == KEY_TWICE else "")
