"""A sensitive value shows itself to reveal() only."""

import gc
import pickle
import weakref

import attrs
import pytest

from jiemi.core.sensitive import PLACEHOLDER, SensitiveBytes, SensitiveText


@attrs.frozen
class _Holder:
    token: SensitiveText


@pytest.mark.parametrize("value", [SensitiveText("canary"), SensitiveBytes(b"canary")])
def test_no_way_of_printing_shows_the_value(value: SensitiveText | SensitiveBytes) -> None:
    shown = [repr(value), str(value), f"{value}", f"{value:>20}", "%s" % value, repr([value])]  # noqa: UP031
    assert all("canary" not in text and PLACEHOLDER in text for text in shown)
    assert "canary" not in repr(_Holder(SensitiveText("canary")))


def test_it_compares_and_hashes_by_value() -> None:
    assert SensitiveText("a") == SensitiveText("a")
    assert SensitiveText("a") != SensitiveText("b")
    assert len({SensitiveBytes(b"a"), SensitiveBytes(b"a"), SensitiveBytes(b"b")}) == 2
    assert SensitiveText("a") != "a"
    assert SensitiveText("\udc80").reveal() == "\udc80"
    assert SensitiveText("\udc80") != SensitiveText("x")


def test_it_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(SensitiveText("canary"))


def test_equal_shared_values_are_held_once_and_forgotten_with_the_last() -> None:
    first, second = (SensitiveText.shared("".join(["sec", "ret"])) for _ in range(2))  # noqa: FLY002 - two objects
    assert first is second
    assert first == SensitiveText("secret")
    gone = weakref.ref(first)
    del first, second
    gc.collect()
    assert gone() is None
