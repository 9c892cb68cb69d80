"""Tokens -> the nodes of the first document in a text, as go.yaml.in/yaml/v2 v2.4.4 has them (parserc.go, decode.go).

A node is a tuple, whose first item is its kind. The nodes below a collection are in a list, which is filled after the
node got its anchor: so an alias may stand below its own anchor, and is refused only when it is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from jiemi.core.content.document_limits import MAX_DEPTH, MAX_NODES
from jiemi.krapao.reading.kubectl_yaml import scanner as tokens
from jiemi.krapao.reading.kubectl_yaml.cursor import Refused, over
from jiemi.krapao.reading.kubectl_yaml.scalars import TAG
from jiemi.krapao.reading.kubectl_yaml.scanner import Scanner

SCALAR: Final = 0
SEQUENCE: Final = 1
MAPPING: Final = 2
ALIAS: Final = 3

Node = tuple[Any, ...]
"""(SCALAR, line, text, tag, plain), (SEQUENCE, line, items), (MAPPING, line, keys and values in turn) or (ALIAS, line,
node). Lines count from 0. The tags of collections mean nothing to kubectl."""

MORE_AFTER_THE_END = "there is more after the end of the document, which kubectl would not read"

_NO_NODE_IN_SEQUENCE = frozenset({tokens.ENTRY, tokens.BLOCK_END})
_NO_NODE_IN_MAPPING = frozenset({tokens.KEY, tokens.VALUE, tokens.BLOCK_END})
_NO_NODE_IN_INDENTLESS = _NO_NODE_IN_MAPPING | {tokens.ENTRY}
_NO_NODE_IN_FLOW_SEQUENCE = frozenset({tokens.VALUE, tokens.FLOW_ENTRY, tokens.FLOW_SEQUENCE_END})
_NO_NODE_IN_FLOW_MAPPING = frozenset({tokens.VALUE, tokens.FLOW_ENTRY, tokens.FLOW_MAPPING_END})
_NO_CONTENT = frozenset(
    {tokens.YAML_DIRECTIVE, tokens.TAG_DIRECTIVE, tokens.DOCUMENT_START, tokens.DOCUMENT_END, tokens.STREAM_END}
)


def parse(text: str, *, max_values: int = MAX_NODES) -> Node | None:
    """The document in a text; None where there is none.

    Args:
        max_values: the most nodes; OverBudget is raised above it, where it is less than is allowed.

    Raises:
        Refused: UnknownFormat; LimitExceeded.
    """
    return _Parser(text, max_values).document()


class _Parser:
    def __init__(self, text: str, max_values: int) -> None:
        self._scanner = Scanner(text)
        self._max_values = max_values
        self._handles: dict[str, str] = {}
        self._anchors: dict[str, Node] = {}
        self._depth = 0
        self._nodes = 0

    def document(self) -> Node | None:
        scanner = self._scanner
        kind = scanner.peek()[0]
        if kind == tokens.STREAM_END:
            return None
        if kind not in (tokens.YAML_DIRECTIVE, tokens.TAG_DIRECTIVE, tokens.DOCUMENT_START):
            self._handles = {"!": "!", "!!": TAG}
            root = self._node(block=True)
        else:
            self._directives()
            if scanner.peek()[0] != tokens.DOCUMENT_START:
                self._refuse()
            scanner.skip()
            kind, line, *_ = scanner.peek()
            root = self._empty(line) if kind in _NO_CONTENT else self._node(block=True)
        kind, line, *_ = scanner.peek()
        while kind == tokens.DOCUMENT_END:
            scanner.skip()
            try:
                kind, line, *_ = scanner.peek()
            except Refused as error:  # it need not be YAML, even
                kind, line = tokens.SCALAR, error.line
        if kind != tokens.STREAM_END:
            raise Refused("UnknownFormat", MORE_AFTER_THE_END, line)
        return root

    def _refuse(self) -> NoReturn:
        self._scanner.refuse(self._scanner.peek()[1])

    def _directives(self) -> None:
        scanner, has_version = self._scanner, False
        handles: dict[str, str] = {}
        while True:
            kind, _, first, second = scanner.peek()
            if kind == tokens.YAML_DIRECTIVE:
                if has_version or (first, second) != ("1", "1"):
                    self._refuse()
                has_version = True
            elif kind == tokens.TAG_DIRECTIVE:
                if first in handles:
                    self._refuse()
                handles[first] = second
            else:
                break
            scanner.skip()
        self._handles = {"!": "!", "!!": TAG, **handles}

    def _count(self, line: int) -> None:
        self._nodes += 1
        if self._nodes > self._max_values:
            raise over(self._max_values, "", line)

    def _empty(self, line: int) -> Node:
        self._count(line)
        return (SCALAR, line, "", "", True)

    def _node(self, *, block: bool, indentless: bool = False) -> Node:
        scanner = self._scanner
        kind, line, text, more = scanner.peek()
        self._count(line)
        anchor: str | None = None
        tag = ""
        if kind == tokens.SCALAR:  # most of all nodes
            scanner.skip()
            return (SCALAR, line, text, "", not more)
        if kind == tokens.ALIAS:
            scanner.skip()
            if text not in self._anchors:
                scanner.refuse(line)
            return (ALIAS, line, self._anchors[text])
        for _ in range(2):  # one of each, in either order
            if kind == tokens.ANCHOR and anchor is None:
                anchor = text
            elif kind == tokens.TAG and not tag:
                tag = self._tag(line, text, more)
            else:
                break
            scanner.skip()
            kind, line, text, more = scanner.peek()
        if kind == tokens.SCALAR:
            scanner.skip()
            return self._anchored(anchor, (SCALAR, line, text, tag, (not tag and not more) or tag == "!"))
        node = self._collection(kind, line, anchor, block, indentless)
        if node is not None:
            return node
        if anchor is None and not tag:
            self._refuse()
        return self._anchored(anchor, (SCALAR, line, "", tag, not tag))

    def _tag(self, line: int, handle: str, suffix: str) -> str:
        if not handle:
            return suffix
        if handle not in self._handles or not (tag := self._handles[handle] + suffix):
            self._scanner.refuse(line)
        return tag

    def _anchored(self, anchor: str | None, node: Node) -> Node:
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _collection(self, kind: int, line: int, anchor: str | None, block: bool, indentless: bool) -> Node | None:
        children: list[Node] = []
        if kind in (tokens.FLOW_SEQUENCE_START, tokens.SEQUENCE_START, tokens.ENTRY):
            node: Node = (SEQUENCE, line, children)
        elif kind in (tokens.FLOW_MAPPING_START, tokens.MAPPING_START):
            node = (MAPPING, line, children)
        else:
            return None
        if kind == tokens.ENTRY:
            if not indentless:
                return None
            fill: Callable[[list[Node]], None] = self._fill_indentless
        elif kind == tokens.FLOW_SEQUENCE_START:
            fill = self._fill_flow_sequence
        elif kind == tokens.FLOW_MAPPING_START:
            fill = self._fill_flow_mapping
        elif not block:
            return None
        else:
            fill = self._fill_sequence if kind == tokens.SEQUENCE_START else self._fill_mapping
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused("LimitExceeded", f"nested deeper than {MAX_DEPTH}", line)
        self._anchored(anchor, node)
        fill(children)
        self._depth -= 1
        return node

    def _fill_sequence(self, items: list[Node]) -> None:
        scanner = self._scanner
        scanner.skip()
        while scanner.peek()[0] == tokens.ENTRY:
            scanner.skip()
            kind, line, *_ = scanner.peek()
            items.append(self._empty(line) if kind in _NO_NODE_IN_SEQUENCE else self._node(block=True))
        if scanner.peek()[0] != tokens.BLOCK_END:
            self._refuse()
        scanner.skip()

    def _fill_indentless(self, items: list[Node]) -> None:
        scanner = self._scanner
        while scanner.peek()[0] == tokens.ENTRY:
            scanner.skip()
            kind, line, *_ = scanner.peek()
            items.append(self._empty(line) if kind in _NO_NODE_IN_INDENTLESS else self._node(block=True))

    def _fill_mapping(self, children: list[Node]) -> None:
        scanner = self._scanner
        scanner.skip()
        while scanner.peek()[0] == tokens.KEY:
            scanner.skip()
            children.append(self._node_or_empty(_NO_NODE_IN_MAPPING))
            kind, line, *_ = scanner.peek()
            if kind == tokens.VALUE:
                scanner.skip()
                children.append(self._node_or_empty(_NO_NODE_IN_MAPPING))
            else:
                children.append(self._empty(line))
        if scanner.peek()[0] != tokens.BLOCK_END:
            self._refuse()
        scanner.skip()

    def _node_or_empty(self, none: frozenset[int], *, block: bool = True) -> Node:
        kind, line, *_ = self._scanner.peek()
        return self._empty(line) if kind in none else self._node(block=block, indentless=block)

    def _fill_flow_sequence(self, items: list[Node]) -> None:
        items.extend(
            self._pair() if kind == tokens.KEY else self._node(block=False)
            for kind in self._flow_entries(tokens.FLOW_SEQUENCE_END)
        )

    def _pair(self) -> Node:
        """A mapping of one key, without braces: `[a: b]`."""
        scanner = self._scanner
        line = scanner.peek()[1]
        scanner.skip()
        kind = scanner.peek()[0]
        if kind in _NO_NODE_IN_FLOW_SEQUENCE:
            scanner.skip()  # as kubectl's library does: `[? , a]` is a list of `{null: a}`, and refused for its key
            key = self._empty(line)
        else:
            key = self._node(block=False)
        value = self._empty(line)
        if scanner.peek()[0] == tokens.VALUE:
            scanner.skip()
            if scanner.peek()[0] not in (tokens.FLOW_ENTRY, tokens.FLOW_SEQUENCE_END):
                value = self._node(block=False)
        return (MAPPING, line, [key, value])

    def _fill_flow_mapping(self, children: list[Node]) -> None:
        scanner = self._scanner
        for kind in self._flow_entries(tokens.FLOW_MAPPING_END):
            if kind == tokens.KEY:
                scanner.skip()
                children.append(self._node_or_empty(_NO_NODE_IN_FLOW_MAPPING, block=False))
                following, line, *_ = scanner.peek()
                value = self._empty(line)
                if following == tokens.VALUE:
                    scanner.skip()
                    if scanner.peek()[0] not in (tokens.FLOW_ENTRY, tokens.FLOW_MAPPING_END):
                        value = self._node(block=False)
                children.append(value)
            else:
                children.append(self._node(block=False))
                children.append(self._empty(scanner.peek()[1]))

    def _flow_entries(self, end: int) -> Iterator[int]:
        """Go through the entries in brackets or braces: the kind of the token at which each begins, which is then read
        by the caller. A comma may stand before the end."""
        scanner = self._scanner
        scanner.skip()
        first = True
        while (kind := scanner.peek()[0]) != end:
            if not first:
                if kind != tokens.FLOW_ENTRY:
                    self._refuse()
                scanner.skip()
                kind = scanner.peek()[0]
                if kind == end:
                    break
            first = False
            yield kind
        scanner.skip()
