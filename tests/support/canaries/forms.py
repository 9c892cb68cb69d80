"""The forms in which a secret may stand where it must not."""

from __future__ import annotations

import base64
from collections.abc import Mapping


def forms_of(*values: str) -> set[bytes]:
    """Each value as it is, in hexadecimal, and what of its base64 form does not depend on what stands before it."""
    forms = set()
    for value in values:
        raw = value.encode()
        forms |= {raw, raw.hex().encode(), raw.hex().upper().encode()}
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + raw)
            forms.add(encoded[4 if shift else 0 : len(encoded) - 4])
    return forms


def found_in(texts: Mapping[str, bytes], forms: set[bytes]) -> list[str]:
    """The names of the texts that hold one of the forms."""
    return [name for name, text in texts.items() if any(form in text for form in forms)]
