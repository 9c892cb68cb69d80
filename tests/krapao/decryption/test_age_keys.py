"""age identities: what is taken, what is refused, and who each is for."""

from __future__ import annotations

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.age_keys import read_age_key
from jiemi.rpc.keys import AgeKey


def test_the_recipient_of_an_identity_is_the_one_that_age_computes() -> None:
    for _ in range(50):
        identity = pyrage.x25519.Identity.generate()
        for text in (str(identity), str(identity).lower(), f"# c\r\n  {identity}  \r\n"):
            found = read_age_key(AgeKey(SensitiveText(text)))
            assert found.recipients == (f"age {identity.to_public()}",)
            assert str(identity) not in repr(found)


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
