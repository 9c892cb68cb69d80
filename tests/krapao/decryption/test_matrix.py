"""Every provider with every format: opened, and what is said where it can't be, each by the real sops.

The table of it in docs/decryption.md is generated from `EXPECTED` (`just docs`), which each cell here is held to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from support.krapao.key_services import OPEN, KeyService
from support.krapao.provider_matrix import EXPECTED, FORMATS, OUTCOMES

from jiemi.core.api.provider import PROVIDERS
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings

CANARY = "canary-7d0e51"
PLAIN = {
    Format.YAML: f"a: {CANARY}\nb:\n  - c\n",
    Format.JSON: json.dumps({"a": CANARY, "b": ["c"]}),
    Format.DOTENV: f"A={CANARY}\nB=c\n",
    Format.INI: f"[s]\na = {CANARY}\nb = c\n",
    Format.BINARY: f"{CANARY}\0\nraw",
}


@pytest.fixture(scope="module", params=PROVIDERS)
def service(request: pytest.FixtureRequest) -> Iterator[KeyService]:
    with OPEN[request.param]() as service:
        yield service


@pytest.fixture
def decrypter(
    service: KeyService, settings: KrapaoSettings, sops_path: Path, runtime: Path, nursery: trio.Nursery
) -> SopsDecrypter:
    changed = attrs.evolve(settings, sops=sops_path, runtime_dir=runtime, operator=service.operator)
    if service.provider == "azure":  # its library tries for 10 s, and no variable bounds that
        changed = attrs.evolve(changed, key_service_timeout_seconds=3)
    return SopsDecrypter(nursery, changed)


@pytest.fixture(autouse=True)
def switched_back(service: KeyService) -> Iterator[None]:
    yield
    if service.double is not None:
        service.double.deny = service.double.break_connection = False
        assert service.double.refused_hosts == []


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.value)
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_each_cell_of_the_table_holds(
    service: KeyService, decrypter: SopsDecrypter, sops_path: Path, format: Format, outcome: str
) -> None:
    expected = EXPECTED[outcome][service.provider]
    data = await trio.to_thread.run_sync(service.encrypt, sops_path, PLAIN[format].encode(), format.value)
    assert CANARY.encode() not in data
    key = service.wrong if outcome == "wrong key" else service.right
    if outcome == "tampered":
        data = tampered(data)
    if service.double is not None:
        service.double.deny = outcome == "denied"
        service.double.break_connection = outcome == "unreachable"
    if expected is None:
        found = await decrypter.decrypt(data, format, (key,))
        assert value_of(found.plain.reveal(), format) == CANARY
        return
    if expected == "-":
        assert service.double is None, "only a provider that asks no service has nothing to be denied or unreachable"
        return
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data, format, (key,))
    assert caught.value.failure.reason == expected, str(caught.value)
    assert CANARY not in str(caught.value)
    if outcome != "tampered":  # it names whom the file is for, beside what was given
        assert "The file is for: " in caught.value.failure.text
        assert "Given: " in caught.value.failure.text


def tampered(data: bytes) -> bytes:
    """The file with the ciphertext of its first value changed by a character."""
    match = re.search(rb"ENC\[AES256_GCM,data:(.)", data)
    assert match is not None
    place = match.start(1)
    return data[:place] + (b"A" if data[place : place + 1] != b"A" else b"B") + data[place + 1 :]


def value_of(plain: bytes, format: Format) -> str:
    if format is Format.BINARY:
        assert plain == PLAIN[Format.BINARY].encode()
        return CANARY
    [document] = parse_documents(plain, format, max_documents=1)
    value = json.loads(document)
    found = value["s"]["a"] if format is Format.INI else value["A"] if format is Format.DOTENV else value["a"]
    assert isinstance(found, str)
    return found
