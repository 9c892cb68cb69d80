"""Values come out of the real sops as they went in, and what can't be run or is too large is told."""

from __future__ import annotations

import json
import random
from pathlib import Path

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption.age_keys import read_age_key
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey

LIKE_NUMBERS = "0123456789abcdefxXoObB+-._eE:"
# fmt: off
TEXTS = [
    "", " ", "yes", "On", "n", "true", "False", "null", "~", ".nan", "-.inf", "<<", "=", "-", "- a", "a: b", "#",
    "a #b", "0x1F", "0o17", "017", "1_000", "1e3", "1e999", "2020-01-01", "1:20:30", "9" * 309, "1" * 500, "0b1", "+1",
    ".5", "0xdeadbeefdeadbeefdeadbeef", "abcdef0123456789" * 40, "---", "...", "%YAML", "&a", "*a", "!b", "|", ">",
    "@", "`", "\n", "\n\n", "a\n", "\na", "\n a\n", "  a\nb", "a\n\n\nb\n\n", "a \nb", "a\r\nb", "é\nü", "x" * 300,
    "\t", "\ta\n\tb", "\t\n", "a\n\u2028b", "\ufffd", "\\ufffd", "\\", '"', "'", "{a}", "[b]", "a,b", "word " * 60,
    "\u00e9", "\U0001f600", "-----BEGIN X-----\nAA==\n-----END X-----\n",
]
# fmt: on


@pytest.mark.parametrize("format", [Format.YAML, Format.JSON])
async def test_every_text_comes_back_as_the_same_text(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
    format: Format,
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
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    plain = (await decrypter.decrypt(data, format, (AgeKey(SensitiveText(age_pair.private)),))).plain
    [found] = parse_documents(plain.reveal(), format, max_documents=1)
    assert json.loads(found) == value


async def test_texts_of_several_documents_come_back_or_are_refused(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    keys = (AgeKey(SensitiveText(age_pair.private)),)

    async def through(*texts: str) -> list[object]:
        plain = "---\n".join(json.dumps({"a": [text, None], "b": {"c": None}}) + "\n" for text in texts)
        data = encrypt(plain, "--age", age_pair.public)
        found = (await decrypter.decrypt(data, Format.YAML, keys)).plain
        return [json.loads(each)["a"][0] for each in parse_documents(found.reveal(), Format.YAML, max_documents=9)]

    texts = [text for text in TEXTS if "\u2028" not in text and not (text.startswith("\t") and "\n" in text)]
    assert await through(*texts[:9]) == texts[:9]
    texts = ["\n a", "  a\nb", "...", "---\na", "0xdeadbeefdeadbeefdeadbeef"]
    assert await through(*texts) == texts
    # If this fails, sops keeps such texts in YAML now, and the check for it can go.
    with pytest.raises(JiemiError, match="sops loses a text of several lines that begins with a tab"):
        await through("SECRET", "\ta\n\tb")
    assert await through("\ta\n\tb") == ["\ta\n\tb"]


@pytest.mark.parametrize(
    ("plain", "says"), [("a: !!binary /w==\n", "no UTF-8 text"), ("a: .nan\n", "what JSON has no form for")]
)
async def test_values_that_json_can_not_hold_are_refused(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
    plain: str,
    says: str,
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    data = encrypt(plain, "--age", age_pair.public)
    with pytest.raises(JiemiError, match=says) as caught:
        await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(age_pair.private)),))
    assert caught.value.failure.reason == "UnknownFormat"


async def test_merge_keys_and_anchors_of_the_plain_file_are_what_they_stood_for(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    plain = "x: &x {k: v, z: 0}\ny: *x\nm:\n  <<: *x\n  z: 1 # one\n# two\nt: 2020-01-01\n"
    for text in (plain, "---\n" + plain + "---\nb: 1\n"):
        data = encrypt(text, "--age", age_pair.public)
        found = (await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(age_pair.private)),))).plain
        first = json.loads(parse_documents(found.reveal(), Format.YAML, max_documents=9)[0])
        pair = {"k": "v", "z": 0}
        assert first == {"x": pair, "y": pair, "m": {"k": "v", "z": 1}, "t": "2020-01-01T00:00:00Z"}


async def test_sops_is_found_by_a_relative_path(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sops_path.parent)
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=Path(sops_path.name), runtime_dir=runtime))
    data = encrypt("a: 1", "--age", age_pair.public)
    await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(age_pair.private)),))


@pytest.mark.parametrize("isolated", [True, False])
async def test_a_file_that_is_no_program_is_a_missing_sops(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    tmp_path: Path,
    age_pair: AgePair,
    encrypt: Encrypter,
    isolated: bool,
) -> None:
    program = tmp_path / "sops"
    program.symlink_to(sops_path)
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=program, runtime_dir=runtime))
    keys = (AgeKey(SensitiveText(age_pair.private)),)
    data = encrypt("a: 1", "--age", age_pair.public)
    await decrypter.decrypt(data, Format.YAML, keys)
    if not isolated:
        decrypter._measures = Measures()
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
        read_age_key(AgeKey(SensitiveText(text)))
    assert caught.value.failure.reason == reason
    assert "AAAA" not in str(caught.value)
