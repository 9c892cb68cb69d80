"""Values come out of the real sops as they went in, and what can't be run or is too large is told."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from jiemi.core.documents import Format, parse_documents
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.processes import adopt_orphans
from jiemi.krapao.recipients import read_age_keys
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.sops import SopsDecrypter
from jiemi.rpc.contract import AgeKey

LIKE_NUMBERS = "0123456789abcdefxXoObB+-._eE:"
TEXTS = [
    *(
        "",
        " ",
        "yes",
        "On",
        "n",
        "true",
        "False",
        "null",
        "~",
        ".nan",
        "-.inf",
        "<<",
        "=",
        "-",
        "- a",
        "a: b",
        "#",
        "a #b",
    ),
    *("0x1F", "0o17", "017", "1_000", "1e3", "1e999", "2020-01-01", "1:20:30", "9" * 309, "1" * 500, "0b1", "+1", ".5"),
    *(
        "0xdeadbeefdeadbeefdeadbeef",
        "abcdef0123456789" * 40,
        "---",
        "...",
        "%YAML",
        "&a",
        "*a",
        "!b",
        "|",
        ">",
        "@",
        "`",
    ),
    *("\n", "\n\n", "a\n", "\na", "\n a\n", "  a\nb", "a\n\n\nb\n\n", "a \nb", "\ta\n\tb", "a\r\nb", "é\nü", "x" * 300),
    *(
        '"',
        "'",
        "{a}",
        "[b]",
        "a,b",
        "word " * 60,
        "\u00e9",
        "\U0001f600",
        "-----BEGIN X-----\nAA==\n-----END X-----\n",
    ),
]


@pytest.fixture
def runtime() -> Iterator[Path]:
    path = Path("/dev/shm") / f"jiemi-values-{os.getpid()}"
    path.mkdir()
    adopt_orphans()
    yield path
    left = list(path.iterdir())
    subprocess.run(["rm", "-rf", str(path)], check=True)
    assert left == []


@pytest.mark.parametrize("format", list(Format))
async def test_every_text_comes_back_as_the_same_text(
    settings: KrapaoSettings, sops_path: Path, runtime: Path, encrypt, age_pair, format: Format
) -> None:
    generator = random.Random(5)
    texts = TEXTS + ["".join(generator.choices(LIKE_NUMBERS, k=generator.randrange(1, 9))) for _ in range(2_000)]
    value = {
        "list": texts,
        "deeper": [{"list": [texts]}],
        "keys": {text: 1 for text in texts if text != "<<" and "\n" not in text},
        "others": [1, -1, 1.5, True, False, None, 2**53, {}, []],
    }
    data = encrypt(json.dumps(value, ensure_ascii=False), "--age", age_pair.public, kind=format.value)
    decrypter = SopsDecrypter(attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    plain = await decrypter.decrypt(data, format, (AgeKey(SensitiveText(age_pair.private)),))
    [found] = parse_documents(plain.reveal(), format, max_documents=1)
    assert json.loads(found) == value


async def test_sops_is_found_by_a_relative_path(
    settings: KrapaoSettings, sops_path: Path, runtime: Path, encrypt, age_pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sops_path.parent)
    decrypter = SopsDecrypter(attrs.evolve(settings, sops=Path(sops_path.name), runtime_dir=runtime))
    data = encrypt("a: 1", "--age", age_pair.public)
    await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(age_pair.private)),))


@pytest.mark.parametrize("isolated", [True, False])
async def test_a_file_that_is_no_program_is_a_missing_sops(
    settings: KrapaoSettings, sops_path: Path, runtime: Path, tmp_path: Path, age_pair, encrypt, isolated: bool
) -> None:
    program = tmp_path / "sops"
    program.symlink_to(sops_path)
    decrypter = SopsDecrypter(attrs.evolve(settings, sops=program, runtime_dir=runtime))
    keys = (AgeKey(SensitiveText(age_pair.private)),)
    data = encrypt("a: 1", "--age", age_pair.public)
    await decrypter.decrypt(data, Format.YAML, keys)
    if not isolated:
        decrypter._isolation = ()
    program.unlink()
    program.write_bytes(b"\x7fELF, but no more")
    program.chmod(0o700)
    with pytest.raises(JiemiError, match="SopsMissing"):
        await decrypter.decrypt(data, Format.YAML, keys)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AGE-SECRET-KEY-PQ-1\0" + "A" * 57, "KeyInvalid"),
        ("AGE-SECRET-KEY-PQ-1" + "\u00e9" * 58, "KeyInvalid"),
        ("AGE-SECRET-KEY-PQ-1" + "\ud800" * 58, "KeyInvalid"),
        (f"AGE-SECRET-KEY-PQ-1{'A' * 58}\n" * 2_000, "LimitExceeded"),
    ],
)
def test_identities_that_no_environment_could_hold_are_refused(text: str, reason: str) -> None:
    with pytest.raises(JiemiError) as caught:
        read_age_keys((AgeKey(SensitiveText(text)),))
    assert caught.value.failure.reason == reason
    assert "AAAA" not in str(caught.value)
