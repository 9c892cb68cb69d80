"""A plain file comes to the same as the same file does that sops encrypted and decrypted."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.reading.plain import PlainLimits, read_plain
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey


@pytest.fixture
async def decrypter(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        ("dotenv", "A=b\n"),
        ("dotenv", "A=b"),
        ("dotenv", "# a comment\n\nA=b\\nc\n#x\nB=\n"),
        ("dotenv", "A= 'b' \nC=\"d\"\nE=f=g # no comment\n"),
        ("dotenv", "A=b\r\nC=d\r\n"),
        ("dotenv", " A =b\n=c\nexport D=e\n"),
        ("dotenv", "ключ=значение\\\\n\n"),
        ("yaml", "a: 0o17\nb: 1.5\nc: 'yes'\nd: |\n  x\n   y\n"),
        ("yaml", "a: 1\n---\nb: 'x'\n"),
        ("json", '{"a": [1, true, null, "x"], "b": {}}'),
    ],
)
async def test_a_plain_file_is_read_as_sops_reads_it(
    kind: str, plain: str, decrypter: SopsDecrypter, encrypt: Encrypter, age_pair: AgePair
) -> None:
    format = Format(kind)
    key = AgeKey(SensitiveText(age_pair.private))
    decrypted = await decrypter.decrypt(encrypt(plain, "--age", age_pair.public, kind=kind), format, (key,))
    expected = parse_documents(decrypted.plain.reveal(), format, max_documents=10, max_bytes=1 << 20)
    assert read_plain(plain.encode(), format, whole=False, limits=PlainLimits(documents=10, bytes=1 << 20)) == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("yaml", "a: 1\nsops: {}\n"),
        ("yaml", "a: 1\nsops: hello\n"),
        ("yaml", '"\\x73ops": 1\n'),
        ("json", '{"sops": {}}'),
        ("dotenv", "A=b\nsops_x=1\n"),
        ("ini", "[sops]\na=b\n"),
        ("binary", '{"data": "x", "sops": {}}'),
    ],
)
async def test_what_has_sops_at_its_top_and_nothing_encrypted_opens_neither_way(
    kind: str, data: str, decrypter: SopsDecrypter, age_pair: AgePair
) -> None:
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data.encode(), Format(kind), (AgeKey(SensitiveText(age_pair.private)),))
    assert caught.value.failure.reason in ("NotEncrypted", "DecryptionFailed")
    with pytest.raises(JiemiError, match="NotEncrypted"):
        read_plain(data.encode(), Format(kind), whole=False, limits=PlainLimits(documents=10, bytes=1 << 20))
