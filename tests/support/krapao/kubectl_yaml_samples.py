"""Scalars and documents to compare readers of manifests on: written by hand, and made from those by chance."""

from __future__ import annotations

import random
from collections.abc import Iterator

from fuzz.mutate import mutate

_WRITTEN = """
y Y yes Yes YES yES n N no No NO true True TRUE tRue false False FALSE on On ON off Off OFF oFF ~ null Null NULL nUll
.nan .NaN .NAN .inf .Inf .INF -.inf +.INF +.nan << = 2001-01-01 2001-1-1 2001-12-14t21:59:43.10-05:00 12:30:45
190:20:30 1:20 0o17 0O17 017 08 09 0b101 0B1 0x1F 0X1f 0xg 1_000 _1 1__0 0_7 +1 -1 - + . .. ... .5 -.5 5. 5.e3 1e3
1E+3 1e-3 1e400 -1e400 1e 1e+ .e1 ._5 .5_0 .5__0 .5_ 1_.5 0.1 -0 -0.0 0 00 007 0x 0b 0o 0b2 0o8 9223372036854775807
9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
123456789012345678901234567890 0x7fffffffffffffff 0xffffffffffffffff 0x10000000000000000 -0x8000000000000000
-0x8000000000000001 1e20 1e21 1e22 1e6 1e-7 1e-6 0.000001 123456789.123456789 3.0 0b-1 0b+1 -0b-1 0b1_0 0x_1 0x1p4
0x1.8p1 inf nan Infinity +.inf 1. 1.0 01.5 0.0e0 100000000000000000000000 0777777777777777777777777 0.1e1 1.5e300 3e38
4e38 16777217.0 1.1 a#b a:b :a ?a -a @a `a %a 'a' "a" 'a" "\\/" "\\x41\\u00e9" '12' "off" key /path *.example.com http://a/?b
"""
_WORDS = _WRITTEN.split()
_PHRASES = (
    ["", "a\tb", "a  b", "a #b", "a: b", "'it''s'", '"a\\tb"', "0b" + "1" * 64, "0b" + "1" * 65, "-0b" + "1" * 63]
    + [
        f"!!{tag} {word}"
        for tag in ("int", "float", "str", "bool", "null", "timestamp")
        for word in ("1", "'1'", "yes")
    ]
    + ["!!float .5", "!!null ''", "!!timestamp 2001-01-01", "!!timestamp 2001-13-01", "!!timestamp 2001-2-30"]
    + ["!!timestamp 2001-1-1 1:2:3", "! 1", "!x 1", "!!binary aGk=", "!!binary a", "!<tag:yaml.org,2002:str> 1"]
)
_CHARACTERS = "0123456789+-._eExXoObBabfinyNoOfFtTruesl:~ "
_PLACES = (
    *("a: %s\n", "- %s\n", "%s\n", "%s: a\n", "[%s]\n", "{a: %s}\n", "{%s: b, c: d}\n", "? %s\n", "a:\n  %s\n"),
    " - %s # c\n",
)
_TAGS = ("!!int ", "!!float ", "!!str ", "!!bool ", "!!null ", "!!timestamp ", "!x ", "! ", "&a ")


def scalars(seed: int, count: int) -> Iterator[bytes]:
    """Documents of one scalar, in one of ten places: first each of those written by hand, then others near them."""
    written = [*_WORDS, *_PHRASES]
    for scalar in written:
        yield f"a: {scalar}\n".encode()
    chance = random.Random(seed)
    for _ in range(count - len(written)):
        kind = chance.random()
        scalar = chance.choice(written)
        if kind < 0.3 and scalar:
            place = chance.randrange(len(scalar))
            scalar = scalar[:place] + chance.choice(_CHARACTERS) + scalar[place + 1 :]
        elif kind < 0.5:
            scalar += chance.choice(_CHARACTERS) + chance.choice(["", chance.choice(written)])
        elif kind < 0.7:
            scalar = "".join(chance.choice("0123456789+-._eExob") for _ in range(chance.randrange(1, 9)))
        if chance.random() < 0.15:
            scalar = chance.choice(_TAGS) + scalar
        yield (chance.choice(_PLACES) % scalar).encode()


DOCUMENTS = (
    b"a: 1\nb:\n- x\n- y: z\n  w: |\n    text\n     more\n\n  v: >-\n    fold\n    ed\n\n    x\n",
    b"c: {d: e, f: [1, 2.5, yes]}\n",
    b"k: &a [1, *a]\n",
    b"base: &base\n  a: 1\n  b: {c: d}\nother:\n  <<: *base\n  a: 2\nlist: [*base, {<<: [*base, *base]}]\n",
    b"x: {a: 1, <<: {a: 2, b: 3}, b: 4}\ny: {<<: [{a: 1}, {a: 2, b: 2}]}\n",
    b"? a\n: b\n? [x]\n: c\n? |\n  k\n: - 1\n  - 2\n",
    b"? a\n: b\n? |\n  k\n: - 1\n  - 2\n?\n",
    b"'single ''quoted''\n  lines\n\n  x': \"double \\\n  cont\n\n  y\\x41\"\n",
    b"a: 'x\n\n  y \n z'\nb: \"l \n\n\n m\n  n\"\n",
    b"a: plain\n  multi\n\n  line\nb: !!str 12\nc: !!int '3'\nd: !!float 3\n",
    b"e: !foo bar\nf: !!binary aGVsbG8=\ng: ! 12\n",
    b'{"a": 1, "b": [true, null, 1.5e3, -0]}\n{"c": "\\u00e9"}\n',
    b'{"a":1}\n---\nb: 2\n',
    b'{"a":1}{"b":2}\n---\nc: 3\n',
    b'\n\n  {"a": 1.0, "b": 1e3, "c": 18446744073709551615, "d": 1e400x}',
    b"[a, b: c, ? d, {e: f, g}, [h]]\n",
    b"[a?b]\n",
    b"{a:}\n",
    b"{a: 'b'c}\n",
    b"{a}",
    b"{ab}",
    b"[]: x\n",
    b"{a: b, [c]: d}\n",
    b"- - a\n  - b\n-\n  c: d\n- |+\n  x\n\n- >2\n    y\n  z\n- ''\n",
    b"a: |\n  x\n   y\n\n  z\n \n    \n  w\nb: |+\n  p\n\n \nc: |-\n\n  q\n  \td\n  \n",
    b"a: |2\n    x\n  y\nb: >+\n  x\n\n  y\n   z\n\n",
    b"%YAML 1.1\n---\na: b\n",
    b"%TAG !e! tag:yaml.org,2002:\r--- \ra: !e!str 5\r",
    b"a:\tb\nc: [\t1,\t2]\nd:\t# x\n- e\n",
    b"a:\n\tb: 1\n",
    b"--- # c\na: b # d\n--- \nb: c#d\n---\n",
    b"--- a: b\n",
    b"a: b\n---x\n",
    b"# only a comment\n---\na: b\n---\n# and another\n",
    b"a: &x 1\nb: *x\n*x : 2\nc: &y {d: *x}\n",
    b"a: b\r\nc: |\r\n  d\r\n  e\r\n",
    b"1: a\ntrue: b\n1.5: c\n1e6: d\n.inf: e\n0x10: f\n0.1: g\n1e-5: h\n123456.7: i\n",
    b"? \n: x\n",
    b"18446744073709551615: x\n",
    b"metadata:\n  annotations:\n    enabled: off\n    mode: 0644\n    at: 2001-01-01\n    time: 12:30\n",
    b"spec:\n  paused: yes\n  n: {y: n}\n",
    'ключ: значение\né: "\\U0001F600"\nn: a\u0085b\u2028c\n'.encode(),
    b"a: |\n  no line break at the end",
    b"\xef\xbb\xbfa: b\n",
)
"""What kubectl's reader has rules of its own for, and what manifests are usually made of."""

TOKENS = tuple(
    each.encode()
    for each in (
        *(
            ": ",
            ":",
            "- ",
            "-",
            "? ",
            "?",
            "# ",
            "#",
            "\n",
            "\n  ",
            "\n ",
            "\n    ",
            "\t",
            " ",
            "{",
            "}",
            "[",
            "]",
            ", ",
        ),
        *(
            "&a ",
            "*a",
            "!",
            "!!str ",
            "!!int ",
            "!<tag:yaml.org,2002:str> ",
            "|",
            "|+\n",
            "|-\n",
            ">\n",
            ">2\n",
            "'",
            '"',
        ),
        *("''", "\\", "\\x41", "\\u00e9", "\\/", "\\'", "---", "---\n", "...", "...\n", "%", "%YAML 1.1\n", "@", "`"),
        *(
            "<<: ",
            "*a ",
            "yes",
            "no",
            "0",
            "1",
            "0x1f",
            "1e3",
            ".5",
            "~",
            "null",
            "\r",
            "\r\n",
            "\x85",
            "\u2028",
            "\ufeff",
        ),
        *("\xa0", "é", "a", "b", "key: value\n", "- item\n", "{a: b}", "[1, 2]", "\x01", '"a": 1', "!!binary ", "!e!"),
    )
)


def documents(seed: int, count: int) -> Iterator[bytes]:
    """Those of `DOCUMENTS`, and others made from their pieces."""
    yield from DOCUMENTS
    chance = random.Random(seed)
    for _ in range(count - len(DOCUMENTS)):
        if chance.random() < 0.5:
            yield b"".join(chance.choice(TOKENS) for _ in range(chance.randrange(1, 12)))
        else:
            yield mutate(chance, chance.choice(DOCUMENTS), tokens=TOKENS, others=DOCUMENTS, max_bytes=600)
