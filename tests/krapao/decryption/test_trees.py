"""Random content that the real sops encrypts comes back equal in each format; changed, it gives no other value."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey

SEED = 20261125
TREES, MUTATIONS = 15, 25
"""Per format. Each is a run of sops or two; all together take some 15 s on 2 cores."""

_TEXT = string.ascii_letters + string.digits + " -_.:/#&*!|>'\"%@`{}[],?\\\n\té€\U0001f600"


def _text(chance: random.Random) -> str:
    # A text of several lines that begins with a tab is lost by sops in YAML (see test_values.py).
    return "".join(chance.choices(_TEXT, k=chance.randrange(0, 30))).lstrip("\t")


def _tree(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(8 if depth < 4 else 5)
    if kind < 3:
        return _text(chance)
    if kind == 3:
        return chance.choice([0, -1, 7, 2**53, -(2**31), 1.5, -0.25])
    if kind == 4:
        return chance.choice([True, False])
    if kind < 7:
        return {_name(chance): _tree(chance, depth + 1) for _ in range(chance.randrange(1, 5))}
    return [_tree(chance, depth + 1) for _ in range(chance.randrange(1, 4))]


def _name(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits + "-_.", k=chance.randrange(1, 12)))


def _mapping(chance: random.Random) -> tuple[str, Any]:
    tree = {_name(chance): _tree(chance) for _ in range(chance.randrange(1, 6))}
    return json.dumps(tree, ensure_ascii=False), tree


def _variables(chance: random.Random) -> tuple[str, Any]:
    # What a dotenv file can say at all: one line each, no comment sign at the beginning.
    found = {
        f"V{number}_{_name(chance).replace('-', '_').replace('.', '_')}": re.sub(r"[\n\\]", "", _text(chance))
        for number in range(chance.randrange(1, 6))
    }
    return "".join(f"{name}={value}\n" for name, value in found.items()), found


def _sections(chance: random.Random) -> tuple[str, Any]:
    value = string.ascii_letters + string.digits + "-_./:@%+"
    found = {
        f"s{number}": {
            f"k{place}": "".join(chance.choices(value, k=chance.randrange(1, 30)))
            for place in range(chance.randrange(1, 4))
        }
        for number in range(chance.randrange(1, 4))
    }
    lines = (
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
        for name, section in found.items()
    )
    return "".join(lines), found


def _bytes(chance: random.Random) -> tuple[str, Any]:
    text = _text(chance) + _text(chance)
    return text, text


MAKE: dict[Format, Callable[[random.Random], tuple[str, Any]]] = {
    Format.YAML: _mapping,
    Format.JSON: _mapping,
    Format.DOTENV: _variables,
    Format.INI: _sections,
    Format.BINARY: _bytes,
}


@pytest.fixture
def decrypter(settings: KrapaoSettings, sops_path: Path, runtime: Path, nursery: trio.Nursery) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


def read(plain: bytes, format: Format) -> Any:
    if format is Format.BINARY:
        return plain.decode()
    [document] = parse_documents(plain, format, max_documents=1)
    value = json.loads(document)
    return {name: section for name, section in value.items() if section} if format is Format.INI else value


@pytest.mark.parametrize("format", list(MAKE), ids=lambda format: format.value)
async def test_random_content_comes_back_equal(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, format: Format
) -> None:
    chance = random.Random(SEED)
    key = AgeKey(SensitiveText(age_pair.private))
    for number in range(TREES):
        text, value = MAKE[format](chance)
        data = await trio.to_thread.run_sync(partial(encrypt, text, "--age", age_pair.public, kind=format.value))
        found = await decrypter.decrypt(data, format, (key,))
        assert read(found.plain.reveal(), format) == value, f"tree {number} of seed {SEED}"


@pytest.mark.parametrize("format", list(MAKE), ids=lambda format: format.value)
async def test_changed_ciphertext_never_gives_another_value(
    decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair, format: Format
) -> None:
    chance = random.Random(SEED)
    key = AgeKey(SensitiveText(age_pair.private))
    text, value = next((text, value) for text, value in iter(lambda: MAKE[format](chance), None) if len(text) > 40)
    data = encrypt(text, "--age", age_pair.public, kind=format.value)
    refused = 0
    for number in range(MUTATIONS):
        changed = _changed(data, chance)
        try:
            found = await decrypter.decrypt(changed, format, (key,))
        except JiemiError as error:
            refused += 1
            assert error.failure.reason in (
                *("MacMismatch", "UnknownFormat", "DecryptionFailed", "KeyMissing", "NotEncrypted"),
            ), f"mutation {number}: {error}"
        else:
            # Where the change is of no account (a date, a space), what comes out is what was put in.
            assert read(found.plain.reveal(), format) == value, f"mutation {number} of seed {SEED}"
    assert refused > MUTATIONS // 2


def _changed(data: bytes, chance: random.Random) -> bytes:
    """A change of some bytes: a ciphertext's mostly, sometimes anything's."""
    parts = [match.span() for match in re.finditer(rb"ENC\[AES256_GCM,[^\]]*\]", data)]
    if parts and chance.random() < 0.8:
        start, end = chance.choice(parts)
        place = chance.randrange(start + len("ENC[AES256_GCM,data:"), end - 1)
        if chance.random() < 0.3 and len(parts) > 1:  # one value in another's place
            other_start, other_end = chance.choice(parts)
            return data[:start] + data[other_start:other_end] + data[end:]
    else:
        place = chance.randrange(len(data))
    new = chance.choice(b"AZaz09+/=:,[]{}\n ")
    return data[:place] + bytes([new]) + data[place + 1 :]
