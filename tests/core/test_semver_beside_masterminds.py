"""Versions and ranges beside the library whose reading of them is ours too (tests/data/semver)."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.kubernetes.go_programs import go_program

from jiemi.core.semver import RangeError, read_range, version_of_tag

RANGES = 4_000
TAGS_EACH = 12
ANSWER_SECONDS = 120


@pytest.fixture(scope="session")
def masterminds() -> Path:
    """The program, built from the library's module."""
    return trio.run(go_program, "semver")


_IDENTIFIERS = ("0", "1", "2", "10", "alpha", "beta", "rc", "a-b", "-", "01", "1a", "", "9" * 22)


@attrs.frozen
class _Maker:
    """Makes ranges and tags, most of which are right or nearly so, close to one another."""

    random: random.Random

    def number(self) -> str:
        choose = self.random
        if choose.random() < 0.92:
            return str(choose.choice([0, 0, 1, 1, 2, 3, 10, 11]))
        return choose.choice(["01", "00", "", "x1", "1x", "2|", "-1", str(2**64 - 1), str(2**64), "9" * 30])

    def tail(self) -> str:
        choose = self.random
        text = ""
        if choose.random() < 0.3:
            pre = [choose.choice(_IDENTIFIERS) for _ in range(choose.choice([1, 1, 2, 3]))]
            text += "-" + ".".join(pre)
        if choose.random() < 0.1:
            text += "+" + choose.choice(["5", "a.b", "", "001", "a-b", "é"])
        return text

    def tag(self) -> str:
        choose = self.random
        count = 3 if choose.random() < 0.93 else choose.choice([1, 2, 4])
        prefix = choose.choice(["", "", "v", "v", "vv", "V", "release-"] if choose.random() < 0.2 else ["", "v"])
        return prefix + ".".join(self.number() for _ in range(count)) + self.tail()

    def version(self) -> str:
        choose = self.random
        numbers = [
            self.number() if choose.random() < 0.85 else choose.choice("xX*")
            for _ in range(choose.choice([1, 2, 2, 3, 3, 3]))
        ]
        return choose.choice(["", "", "", "v"]) + ".".join(numbers) + self.tail()

    def space(self) -> str:
        return self.random.choice(["", "", " ", " ", "  ", "\t", "\n"]) if self.random.random() < 0.3 else ""

    def constraint(self) -> str:
        choose = self.random
        if choose.random() < 0.1:
            return f"{self.version()} - {self.version()}"
        operators = ["", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"]
        operator = choose.choice(operators) if choose.random() < 0.98 else choose.choice(["==", "><", "~ >", "<>", "!"])
        return operator + self.space() + self.version()

    def group(self) -> str:
        choose = self.random
        between = [" ", ", ", ",", " , ", "  "] if choose.random() < 0.95 else ["", ",,", ";", "\v", "\xa0"]
        made = self.constraint()
        for _ in range(choose.choice([0, 0, 1, 1, 2])):
            made += choose.choice(between) + self.constraint()
        return self.space() + made + self.space()

    def range(self) -> str:
        return "||".join(self.group() for _ in range(self.random.choice([1, 1, 1, 1, 2, 3])))


def _questions() -> Iterator[dict[str, Any]]:
    seed = os.environ.get("JIEMI_SEED", "semver")
    maker = _Maker(random.Random(seed))
    for _ in range(RANGES):
        yield {"Range": maker.range(), "Tags": [maker.tag() for _ in range(TAGS_EACH)]}
    for text in _ODD:
        yield {"Range": text, "Tags": [maker.tag() for _ in range(TAGS_EACH)]}


_ODD = (
    *("", " ", "*", "||", "1||", "x.5.|", "1.x.|", "*-0", "*-alpha", "!=*", ">*", "<*", "<=*", "^*", "^x.1", "~0"),
    *("~0.0", "~0.0.0", ">0.x", "1 - 2 || 11 - 2", "11 - 2 || 1 - 2", ">1 - 2", "1.2.3.4 - 5", "1" * 252 + ".0.0"),
    *("v" + "0" * 250 + ".1.1", "0" * 251 + ".x", "1.1.1+" + "a" * 251, "1.1.x+" + "a" * 300, "1 " * 256, "1 " * 257),
    *("1||" * 31 + "1", "1||" * 32 + "1", "é", "\x00"),
)


def _ours(question: dict[str, Any]) -> dict[str, Any]:
    try:
        wanted = read_range(question["Range"])
    except RangeError:
        wanted = None
    holds, compared, before = [], [], None
    for tag in question["Tags"]:
        version = version_of_tag(tag)
        if version is None or wanted is None:
            holds.append("no version")
        else:
            holds.append("in" if wanted.holds(version) else "out")
        if version is not None:
            if before is not None:
                compared.append(version.compare(before))
            before = version
    return {"readable": wanted is not None, "holds": holds, "compared": compared or None}


def _ask(program: Path, questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    text = "".join(f"{json.dumps(question)}\n" for question in questions)
    done = subprocess.run([program], input=text.encode(), capture_output=True, check=True, timeout=ANSWER_SECONDS)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_range_and_tag_is_read_as_the_library_reads_it(masterminds: Path) -> None:
    questions = list(_questions())
    theirs = _ask(masterminds, questions)
    assert len(theirs) == len(questions)
    different = [
        (question, ours, answer)
        for question, answer in zip(questions, theirs, strict=True)
        if (ours := _ours(question)) != answer
    ]
    assert different == []
    # The cases must be of all kinds for that to say much.
    words = [word for answer in theirs for word in answer["holds"]]
    readable = sum(answer["readable"] for answer in theirs)
    assert RANGES * 0.3 < readable < RANGES * 0.9
    assert min(words.count(word) for word in ("in", "out", "no version")) > 2_000
