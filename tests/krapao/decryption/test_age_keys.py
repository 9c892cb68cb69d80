"""age identities: what is taken, what is refused, and who each is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pyrage
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.age_keys import read_age_key
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey


def test_the_recipient_of_an_identity_is_the_one_that_age_computes() -> None:
    for _ in range(50):
        identity = pyrage.x25519.Identity.generate()
        for text in (str(identity), str(identity).lower(), f"# c\r\n  {identity}  \r\n"):
            found = read_age_key(AgeKey(SensitiveText(text)))
            assert found.recipients == (f"age {identity.to_public()}",)
            assert str(identity) not in repr(found)


@pytest.mark.parametrize("change", [str, str.lower])
async def test_an_identity_in_small_letters_opens_what_is_for_it(
    change: Callable[[str], str],
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    data = encrypt("a: canary-value\n", "--age", age_pair.public)
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    key = AgeKey(SensitiveText(change(age_pair.private)))
    assert b"canary-value" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()


@pytest.mark.parametrize("text", ["AGE-SECRET-KEY-1{}", "AGE-PLUGIN-YUBIKEY-1{}", "AGE-SECRET-KEY-PQ-1{}"])
def test_an_identity_in_both_capitals_and_small_letters_is_damaged(text: str) -> None:
    with pytest.raises(JiemiError, match="damaged") as caught:
        read_age_key(AgeKey(SensitiveText(text.format("qpzry9x8gf2tvdw0s3jn54khce6mua7l" * 2))), plugins=True)
    assert "qpz" not in str(caught.value)


def test_a_changed_character_is_found_by_the_checksum() -> None:
    text = str(pyrage.x25519.Identity.generate())
    for place in range(len("AGE-SECRET-KEY-1"), len(text)):
        damaged = text[:place] + ("Q" if text[place] != "Q" else "P") + text[place + 1 :]
        with pytest.raises(JiemiError, match="damaged or not whole") as caught:
            read_age_key(AgeKey(SensitiveText(damaged)))
        assert damaged not in str(caught.value)


@given(st.text() | st.text("qpzry9x8gf2t").map(lambda text: "AGE-SECRET-KEY-1" + text))
def test_any_text_is_an_identity_or_a_typed_error(text: str) -> None:
    with pytest.raises(JiemiError) as caught:
        read_age_key(AgeKey(SensitiveText(text)))
    assert caught.value.failure.reason == "KeyInvalid"
