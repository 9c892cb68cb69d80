"""A later release, as a peer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import capnp
import pytest


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The schema of a later release, with one more member in each union.

    It is loaded once: pycapnp crashes when a process loads the same types from two files.
    """
    text = (Path(__file__).parents[3] / "schema" / "krapao.capnp").read_text()

    def free(struct: str) -> int:
        """The next number of a struct."""
        [members] = re.findall(rf"^struct {struct} \{{$(.*?)^\}}$", text, re.MULTILINE | re.DOTALL)
        return 1 + max(int(number) for number in re.findall(r" @(\d+) ", members))

    for old, new in (
        ("@0xc3f1a5d2b7e94608", "@0xc3f1a5d2b7e94609"),
        ("    pgp @1 :Text;", f"    pgp @1 :Text;\n    later @{free('DecryptionKey')} :Text;"),
        ("    commit @4 :Text;", f"    commit @4 :Text;\n    later @{free('Source')} :Text;"),
        ("    files @0 :Files;\n", "    files @0 :Files;\n    later @2 :Text;\n"),
        ("    changes @0 :Changes;\n", "    changes @0 :Changes;\n    later @2 :Text;\n"),
        ("    head @0 :Head;\n    failure @1", "    head @0 :Head;\n    later @2 :Text;\n    failure @1"),
        ("    rendered @0 :Rendered;\n", "    rendered @0 :Rendered;\n    later @2 :Text;\n"),
        ("  stalled @2;", "  stalled @2;\n  later @3;"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path_factory.mktemp("newer") / "newer.capnp"
    path.write_text(text)
    return capnp.load(str(path))
