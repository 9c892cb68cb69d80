r"""Text -> tokens, by the rules of libyaml's scanner as go.yaml.in/yaml/v2 v2.4.4 (scannerc.go) has them.

No library that is at hand agrees with that scanner: YAML 1.2 forbids tabs where it takes them, PyYAML and libyaml of
today end a plain scalar elsewhere in `[a?b]`, `{a:}` and `[!!str]`, and know other escapes. So the rules are here once
more, in the same order; regular expressions take the usual runs of characters at once.

A *simple key* is a key without `? ` before it. It is seen to be one only at its `:`, so wherever one may begin the
place is remembered, one for each flow level, and the token KEY is put in later. It ends with its line, and after 1,024
characters. That is why tokens wait in a queue: the first may go only when nothing can come before it any longer.
"""

from __future__ import annotations

import re
from collections import deque

import attrs

from jiemi.core.content.document_limits import MAX_DEPTH
from jiemi.krapao.reading.kubectl_yaml.cursor import BLANKS, BLANKZ, ENDS, SPACES, Cursor, Refused
from jiemi.krapao.reading.kubectl_yaml.scalar_text import scan_block, scan_plain, scan_quoted

(
    STREAM_END, YAML_DIRECTIVE, TAG_DIRECTIVE, DOCUMENT_START, DOCUMENT_END, SEQUENCE_START, MAPPING_START, BLOCK_END,
    FLOW_SEQUENCE_START, FLOW_SEQUENCE_END, FLOW_MAPPING_START, FLOW_MAPPING_END, FLOW_ENTRY, ENTRY, KEY, VALUE, ALIAS,
    ANCHOR, TAG, SCALAR,
) = range(20)  # fmt: skip
"""The kinds of tokens. ENTRY is `- `, FLOW_ENTRY `,`; SEQUENCE_START and MAPPING_START are those of blocks."""

Token = tuple[int, int, str, str]
"""Kind; line, from 0; text: of a scalar, an anchor or alias, a tag's or directive's handle; more: a scalar's style (""
for a plain one), a tag's suffix, a directive's prefix."""

_LONGEST_KEY = 1024

_COMMENT = re.compile(rf"#[^{ENDS}]*+")
_EMPTY_LINES = re.compile(rf"(?: *+(?:#[^{ENDS}]*+)?\n)*+")
_NAME = re.compile(r"[0-9A-Za-z_-]*+")
_URI = re.compile(r"(?:[-0-9A-Za-z_;/?:@&=+$,.!~*'()\[\]]|%[0-9A-Fa-f]{2})*+")
_VERSION = re.compile(r"[ \t]*+([0-9]{1,2})\.([0-9]{1,2})(?![0-9])")

_MARKS = frozenset("\t,[]{}#&*!|>'\"%@`")
"""What begins no plain scalar, besides `-`, `?` and `:`."""

_FLOW_MARKS = {
    "[": FLOW_SEQUENCE_START,
    "{": FLOW_MAPPING_START,
    "]": FLOW_SEQUENCE_END,
    "}": FLOW_MAPPING_END,
}


@attrs.define
class _SimpleKey:
    """Where a key may have begun, on one flow level."""

    possible: bool = False
    required: bool = False
    token: int = 0
    place: int = 0
    line: int = 0
    column: int = 0


class Scanner(Cursor):
    """The tokens of a text, one after the other."""

    def __init__(self, text: str) -> None:
        """Args: text: with nothing in it that YAML forbids, and no NUL."""
        super().__init__(text)
        self._indent = -1
        self._indents: list[int] = []
        self._flow_level = 0
        self._key_allowed = True
        self._keys = [_SimpleKey()]
        self._key_by_token: dict[int, int] = {}
        self._tokens: deque[Token] = deque()
        self._taken = 0
        self._ended = False

    def peek(self) -> Token:
        """The next token, which stays."""
        tokens = self._tokens
        while True:
            if tokens:
                level = self._key_by_token.get(self._taken)
                if level is None or not self._is_valid(self._keys[level]):
                    return tokens[0]
            self._fetch()

    def skip(self) -> None:
        """Drop the token that `peek` gave."""
        self._tokens.popleft()
        self._taken += 1

    # Simple keys and indentation

    def _is_valid(self, key: _SimpleKey) -> bool:
        if not key.possible:
            return False
        if key.line < self.line or key.place + _LONGEST_KEY < self.place:
            if key.required:
                self.refuse()
            key.possible = False
        return key.possible

    def _save_key(self) -> None:
        if not self._key_allowed:
            return
        column = self.column
        self._remove_key()
        number = self._taken + len(self._tokens)
        required = self._flow_level == 0 and self._indent == column
        self._keys[-1] = _SimpleKey(True, required, number, self.place, self.line, column)
        self._key_by_token[number] = len(self._keys) - 1

    def _remove_key(self) -> None:
        key = self._keys[-1]
        if key.possible:
            if key.required:
                self.refuse()
            key.possible = False
            self._key_by_token.pop(key.token, None)

    def _roll_indent(self, column: int, kind: int, line: int, number: int | None = None) -> None:
        if self._flow_level > 0 or self._indent >= column:
            return
        self._indents.append(self._indent)
        self._indent = column
        if len(self._indents) > MAX_DEPTH + 1:
            raise Refused("LimitExceeded", f"nested deeper than {MAX_DEPTH}", line)
        self._insert(number, (kind, line, "", ""))

    def _insert(self, number: int | None, token: Token) -> None:
        """Put a token in before another; at the end where that is gone, as after `[]:`."""
        if number is None or number < self._taken:
            self._tokens.append(token)
        else:
            self._tokens.insert(number - self._taken, token)

    def _unroll_indent(self, column: int) -> None:
        if self._flow_level > 0:
            return
        while self._indent > column:
            self._tokens.append((BLOCK_END, self.line, "", ""))
            self._indent = self._indents.pop()

    # One token after the other

    def _fetch(self) -> None:
        if self._ended:
            self.refuse()
        self._skip_to_token()
        text, place = self.text, self.place
        column = self.column
        self._unroll_indent(column)
        char = text[place]
        if char == "\0":
            self._fetch_end()
        elif column == 0 and char == "%":
            self._fetch_directive()
        elif column == 0 and self.at_document_mark():
            self._clear_block()
            self._put(DOCUMENT_START if char == "-" else DOCUMENT_END, 3)
        elif char in "[{":
            self._save_key()
            self._flow_level += 1
            if self._flow_level > MAX_DEPTH + 1:
                raise Refused("LimitExceeded", f"nested deeper than {MAX_DEPTH}", self.line)
            self._keys.append(_SimpleKey(token=self._taken + len(self._tokens)))
            self._key_allowed = True
            self._put(_FLOW_MARKS[char], 1)
        elif char in "]}":
            self._remove_key()
            if self._flow_level > 0:
                self._flow_level -= 1
                self._key_by_token.pop(self._keys.pop().token, None)
            self._key_allowed = False
            self._put(_FLOW_MARKS[char], 1)
        elif char == ",":
            self._remove_key()
            self._key_allowed = True
            self._put(FLOW_ENTRY, 1)
        else:
            self._fetch_more(char, text[place + 1])

    def _fetch_more(self, char: str, following: str) -> None:
        blank = following in BLANKZ
        if char == "-" and blank:
            self._fetch_entry()
        elif char == "?" and (self._flow_level > 0 or blank):
            self._fetch_key()
        elif char == ":" and (self._flow_level > 0 or blank):
            self._fetch_value()
        elif char in "*&":
            self._fetch_anchor(ALIAS if char == "*" else ANCHOR)
        elif char == "!":
            self._fetch_tag()
        elif char in "|>" and self._flow_level == 0:
            self._remove_key()
            self._key_allowed = True
            line = self.line
            self._tokens.append((SCALAR, line, scan_block(self, self._indent, literal=char == "|"), char))
        elif char in "'\"":
            self._save_key()
            self._key_allowed = False
            line = self.line
            self._tokens.append((SCALAR, line, scan_quoted(self, char), char))
        elif char not in _MARKS:
            # `-` with more behind it, and outside of flow collections `?` and `:` as well.
            self._save_key()
            line = self.line
            found, self._key_allowed = scan_plain(self, self._indent + 1, flow=self._flow_level > 0)
            self._tokens.append((SCALAR, line, found, ""))
        else:
            self.refuse()

    def _put(self, kind: int, width: int, text: str = "", more: str = "") -> None:
        self._tokens.append((kind, self.line, text, more))
        self.place += width

    def _clear_block(self) -> None:
        self._unroll_indent(-1)
        self._remove_key()
        self._key_allowed = False

    def _fetch_end(self) -> None:
        if self.place != self.line_start:
            self.line += 1
            self.line_start = self.place
        self._clear_block()
        self._tokens.append((STREAM_END, self.line, "", ""))
        self._ended = True

    def _fetch_entry(self) -> None:
        if self._flow_level == 0:
            if not self._key_allowed:
                self.refuse()
            self._roll_indent(self.column, SEQUENCE_START, self.line)
        self._remove_key()
        self._key_allowed = True
        self._put(ENTRY, 1)

    def _fetch_key(self) -> None:
        if self._flow_level == 0:
            if not self._key_allowed:
                self.refuse()
            self._roll_indent(self.column, MAPPING_START, self.line)
        self._remove_key()
        self._key_allowed = self._flow_level == 0
        self._put(KEY, 1)

    def _fetch_value(self) -> None:
        key = self._keys[-1]
        if self._is_valid(key):
            self._insert(key.token, (KEY, key.line, "", ""))
            self._roll_indent(key.column, MAPPING_START, key.line, key.token)
            key.possible = False
            self._key_by_token.pop(key.token, None)
            self._key_allowed = False
        else:
            if self._flow_level == 0:
                if not self._key_allowed:
                    self.refuse()
                self._roll_indent(self.column, MAPPING_START, self.line)
            self._key_allowed = self._flow_level == 0
        self._put(VALUE, 1)

    def _fetch_anchor(self, kind: int) -> None:
        self._save_key()
        self._key_allowed = False
        name = self.match(_NAME, self.place + 1)
        end = self.place + 1 + len(name)
        if not name or self.text[end] not in BLANKZ + "?:,]}%@`":
            self.refuse()
        self._put(kind, 1 + len(name), name)

    # Between tokens

    def _skip_to_token(self) -> None:
        while True:
            # Tabs may not be where indentation counts.
            blanks = BLANKS if self._flow_level > 0 or not self._key_allowed else SPACES
            self.place += len(self.match(blanks, self.place))
            if self.text[self.place] == "#":
                self.place += len(self.match(_COMMENT, self.place))
            if not self.skip_break():
                return
            if self._flow_level == 0:
                self._key_allowed = True
            lines = self.match(_EMPTY_LINES, self.place)  # with the next ones, one pass for all
            if lines:
                self.place = self.line_start = self.place + len(lines)
                self.line += lines.count("\n")

    # Directives and tags

    def _fetch_directive(self) -> None:
        self._clear_block()
        line = self.line
        name = self.match(_NAME, self.place + 1)
        self.place += 1 + len(name)
        if name not in ("YAML", "TAG") or self.text[self.place] not in BLANKZ:
            self.refuse()
        if name == "YAML":
            found = _VERSION.match(self.text, self.place)
            if found is None:
                self.refuse()
            self.place = found.end()
            token = (YAML_DIRECTIVE, line, str(int(found[1])), str(int(found[2])))
        else:
            self.place += len(self.match(BLANKS, self.place))
            handle = self._scan_handle()
            if (handle != "!" and not handle.endswith("!")) or self.text[self.place] not in " \t":
                self.refuse()
            self.place += len(self.match(BLANKS, self.place))
            prefix = self._scan_uri("")
            if self.text[self.place] not in BLANKZ:
                self.refuse()
            token = (TAG_DIRECTIVE, line, handle, prefix)
        self.place += len(self.match(BLANKS, self.place))
        self.place += len(self.match(_COMMENT, self.place))
        if self.text[self.place] not in ENDS:
            self.refuse()
        self.skip_break()
        self._tokens.append(token)

    def _fetch_tag(self) -> None:
        self._save_key()
        self._key_allowed = False
        line = self.line
        if self.text[self.place + 1] == "<":
            self.place += 2
            handle, suffix = "", self._scan_uri("")
            if self.text[self.place] != ">":
                self.refuse()
            self.place += 1
        else:
            handle = self._scan_handle()
            if len(handle) > 1 and handle.endswith("!"):
                suffix = self._scan_uri("")
            else:
                handle, suffix = "!", self._scan_uri(handle)
                if not suffix:
                    handle, suffix = "", "!"
        if self.text[self.place] not in BLANKZ:
            self.refuse()
        self._tokens.append((TAG, line, handle, suffix))

    def _scan_handle(self) -> str:
        if self.text[self.place] != "!":
            self.refuse()
        handle = "!" + self.match(_NAME, self.place + 1)
        if self.text[self.place + len(handle)] == "!":
            handle += "!"
        self.place += len(handle)
        return handle

    def _scan_uri(self, head: str) -> str:
        found = self.match(_URI, self.place)
        self.place += len(found)
        if not head and not found:
            self.refuse()
        if "%" in found:
            octets = re.sub(rb"%(..)", lambda each: bytes([int(each[1], 16)]), found.encode())
            try:
                found = octets.decode()
            except UnicodeDecodeError:
                found = ""
            if not found:
                self.refuse()
        return head[1:] + found
