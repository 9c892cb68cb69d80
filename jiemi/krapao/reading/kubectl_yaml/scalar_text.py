"""The text of one scalar, from where it begins (scannerc.go): plain, quoted or block."""

from __future__ import annotations

import functools
import re

from jiemi.krapao.reading.kubectl_yaml.cursor import BLANKS, BLANKZ, BREAKS, ENDS, SPACES, Cursor

_WORD = rf"(?:[^{BLANKZ}:]|:(?![{BLANKZ}]))"
_FLOW_WORD = rf"(?:[^{BLANKZ}:,?\[\]{{}}]|:(?![{BLANKZ}]))"
_LINE = re.compile(rf"[^{ENDS}]*+")
_PLAIN = re.compile(rf"{_WORD}*+(?:[ \t]++(?!\#){_WORD}++)*+")
_FLOW_PLAIN = re.compile(rf"{_FLOW_WORD}*+(?:[ \t]++(?!\#){_FLOW_WORD}++)*+")
_SINGLE_LINE = re.compile(rf"'((?:[^'{ENDS}]|'')*+)'")
_DOUBLE_LINE = re.compile(rf'"([^"\\{ENDS}]*+)"')
_SINGLE_LINES = re.compile("'((?:[^'\\r\\x85\\u2028\\u2029\\0]|'')*+)'")
_DOUBLE_LINES = re.compile('"([^"\\\\\\r\\x85\\u2028\\u2029\\0]*+)"')
_MARK_IN_LINES = re.compile(r"\n(?:---|\.\.\.)[ \t\n]")
_ONE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
_MORE_BREAKS = re.compile(r"\n(\n++)")
_SINGLE_RUN = re.compile(rf"(?:[^'{BLANKZ}]|'')*+")
_DOUBLE_RUN = re.compile(rf'[^"\\{BLANKZ}]*+')
_BLOCK_HEADER = re.compile(rf"(?:([-+])([1-9])?|([1-9])([-+])?)?[ \t]*+(?:#[^{ENDS}]*+)?(?=[{ENDS}])")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]*+")

_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    " ": " ", '"': '"', "'": "'", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_ESCAPED_NUMBERS = {"x": 2, "u": 4, "U": 8}


def scan_plain(cursor: Cursor, indent: int, *, flow: bool) -> tuple[str, bool]:
    """A scalar without quotes, and whether it took a line break after its last word.

    Args:
        indent: the column that its further lines have at least, outside of flow collections.
    """
    run = _FLOW_PLAIN if flow else _PLAIN
    text = cursor.text
    found: list[str] = []
    breaks: list[str] = []
    while True:
        place = cursor.place
        if cursor.at_document_mark() or text[place] == "#":
            break
        part = cursor.match(run, place)
        if part:
            if breaks:
                found.append(_fold(breaks))
                breaks = []
            found.append(part)
            place += len(part)
            cursor.place = place
        if text[place] not in " \t" + BREAKS:
            break
        cursor.place += len(cursor.match(BLANKS, place))
        while line_break := cursor.skip_break():
            breaks.append(line_break)
            place = cursor.place
            blanks = cursor.match(BLANKS, place)
            if "\t" in blanks[: max(0, indent)]:
                cursor.refuse()
            cursor.place += len(blanks)
        if not breaks or (not flow and cursor.column < indent):
            break
    return "".join(found), bool(breaks)


def scan_quoted(cursor: Cursor, quote: str) -> str:
    """A scalar in quotes."""
    whole = (_SINGLE_LINE if quote == "'" else _DOUBLE_LINE).match(cursor.text, cursor.place)
    if whole is None and (lines := _scan_quoted_lines(cursor, quote)) is not None:
        return lines
    if whole is not None:
        value = whole[1].replace("''", "'") if quote == "'" else whole[1]
        cursor.place = whole.end()
        return value
    text = cursor.text
    cursor.place += 1
    found: list[str] = []
    while True:
        if cursor.at_document_mark() or text[cursor.place] == "\0":
            cursor.refuse()
        folded = _scan_quoted_run(cursor, quote, found)
        if text[cursor.place] == quote:
            break
        blanks = cursor.match(BLANKS, cursor.place)
        cursor.place += len(blanks)
        breaks: list[str] = []
        while line_break := cursor.skip_break():
            breaks.append(line_break)
            cursor.place += len(cursor.match(BLANKS, cursor.place))
        if folded:
            found.extend(breaks)
        else:
            found.append(_fold(breaks) if breaks else blanks)
    cursor.place += 1
    return "".join(found)


def _scan_quoted_lines(cursor: Cursor, quote: str) -> str | None:
    """A scalar of several lines whose breaks are all LF, without escapes, in one go; None where it is none."""
    whole = (_SINGLE_LINES if quote == "'" else _DOUBLE_LINES).match(cursor.text, cursor.place)
    if whole is None:
        return None
    body = whole[1]
    if _MARK_IN_LINES.search(body) is not None:
        cursor.refuse()
    first, *between, last = body.split("\n")
    lines = [first.rstrip(" \t"), *(each.strip(" \t") for each in between), last.lstrip(" \t")]
    text = _ONE_BREAK.sub(" ", "\n".join(lines))
    text = _MORE_BREAKS.sub(r"\1", text)
    cursor.line += len(between) + 1
    cursor.line_start = whole.end() - 1 - len(last)
    cursor.place = whole.end()
    return text.replace("''", "'") if quote == "'" else text


def _scan_quoted_run(cursor: Cursor, quote: str, found: list[str]) -> bool:
    """What stands before the next blank, break or quote; whether an escaped line break ended it."""
    text = cursor.text
    if quote == "'":
        run = cursor.match(_SINGLE_RUN, cursor.place)
        cursor.place += len(run)
        found.append(run.replace("''", "'"))
        return False
    while True:
        run = cursor.match(_DOUBLE_RUN, cursor.place)
        cursor.place += len(run)
        found.append(run)
        if text[cursor.place] != "\\":
            return False
        escape = text[cursor.place + 1]
        if escape in BREAKS:
            cursor.place += 1
            cursor.skip_break()
            return True
        cursor.place += 2
        if escape in _ESCAPES:
            found.append(_ESCAPES[escape])
        elif escape in _ESCAPED_NUMBERS:
            width = _ESCAPED_NUMBERS[escape]
            digits = text[cursor.place : cursor.place + width]
            if len(cursor.match(_HEXADECIMAL, cursor.place)) < width:
                cursor.refuse()
            number = int(digits, 16)
            if 0xD800 <= number <= 0xDFFF or number > 0x10FFFF:
                cursor.refuse()
            found.append(chr(number))
            cursor.place += width
        else:
            cursor.refuse()


def scan_block(cursor: Cursor, parent_indent: int, *, literal: bool) -> str:
    """A scalar behind `|` or `>`.

    Args:
        parent_indent: the column of the collection that it is in, -1 for none.
    """
    header = _BLOCK_HEADER.match(cursor.text, cursor.place + 1)
    if header is None:
        cursor.refuse()
    cursor.place = header.end()
    chomping, increment = header[1] or header[4], int(header[2] or header[3] or 0)
    cursor.skip_break()
    indent = max(parent_indent, 0) + increment if increment else 0
    trailing: list[str] = []
    indent = _scan_block_breaks(cursor, indent, trailing)
    if not increment:
        indent = max(indent, parent_indent + 1, 1)
    found: list[str] = []
    leading, after_blank = "", False
    text = cursor.text
    while cursor.column == indent and text[cursor.place] != "\0":
        if literal and (run := _literal_run(indent).match(text, cursor.place)) is not None:
            _take_literal_run(cursor, run.group(), indent, found, leading, trailing)
            leading = "\n"
            _scan_block_breaks(cursor, indent, trailing)
            continue
        blank = text[cursor.place] in " \t"
        if not literal and leading == "\n" and not after_blank and not blank:
            if not trailing:
                found.append(" ")
        else:
            found.append(leading)
        found.extend(trailing)
        trailing.clear()
        after_blank = blank
        content = cursor.match(_LINE, cursor.place)
        found.append(content)
        cursor.place += len(content)
        leading = cursor.skip_break()
        _scan_block_breaks(cursor, indent, trailing)
    if chomping != "-":
        found.append(leading)
    if chomping == "+":
        found.extend(trailing)
    return "".join(found)


@functools.lru_cache(64)
def _literal_run(indent: int) -> re.Pattern[str]:
    """Lines of a literal scalar that end in LF, from behind the first one's indentation."""
    return re.compile(rf"[^{ENDS}]*+\n(?: {{{indent}}}[^{ENDS}]*+\n| {{0,{indent}}}\n)*+")


def _take_literal_run(
    cursor: Cursor, run: str, indent: int, found: list[str], leading: str, trailing: list[str]
) -> None:
    """Many lines at once. The empty ones at the end are left in `trailing`."""
    first, *more = run.split("\n")[:-1]
    lines = [first, *(each[indent:] for each in more)]
    empty = 0
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
        empty += 1
    found.append(leading)
    found.extend(trailing)
    found.append("\n".join(lines))
    trailing[:] = ["\n"] * empty
    cursor.place = cursor.line_start = cursor.place + len(run)
    cursor.line += len(more) + 1


def _scan_block_breaks(cursor: Cursor, indent: int, breaks: list[str]) -> int:
    """Take indentation and empty lines; returns the indentation: the deepest of these lines where it is 0."""
    deepest = 0
    while True:
        spaces = len(cursor.match(SPACES, cursor.place))
        column = cursor.column
        if indent:
            spaces = min(spaces, max(0, indent - column))
        cursor.place += spaces
        column += spaces
        deepest = max(deepest, column)
        if (not indent or column < indent) and cursor.text[cursor.place] == "\t":
            cursor.refuse()
        line_break = cursor.skip_break()
        if not line_break:
            break
        breaks.append(line_break)
    return indent or deepest


def _fold(breaks: list[str]) -> str:
    """What line breaks within a scalar come to: one is a space, more are themselves except the first."""
    if breaks[0] != "\n":
        return "".join(breaks)
    return "".join(breaks[1:]) or " "
