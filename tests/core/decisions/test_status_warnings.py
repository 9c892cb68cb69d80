"""What a status warns of."""

from __future__ import annotations

import datetime

import attrs

from jiemi.core.api.decryptor_status import MAX_WARNINGS, FileWarning
from jiemi.core.decisions.conditions import condition
from jiemi.core.decisions.status import blank
from jiemi.core.decisions.status_warnings import with_file_warnings, with_warnings

NOW = datetime.datetime(2026, 11, 24, 3, tzinfo=datetime.UTC)


def test_warnings_about_files_are_kept_by_file_and_bounded() -> None:
    def warned(file: str, kind: str = "CarriageReturns", *names: str) -> FileWarning:
        return FileWarning(file, kind, names)

    before = attrs.evolve(blank("x"), warnings=(warned("a"), warned("b"), warned("gone")))
    after = with_file_warnings(
        before, [warned("c", "MacOnlyEncrypted"), warned("a", "CarriageReturns", "N")], read=["a", "c"], files="abc"
    )
    assert after.warnings == (warned("a", "CarriageReturns", "N"), warned("b"), warned("c", "MacOnlyEncrypted"))
    assert with_file_warnings(after, [], read=["a", "b", "c"], files="abc").warnings == ()
    many = [warned(f"{number:04}") for number in range(500)]
    files = [each.file for each in many]
    full = with_file_warnings(before, many, read=files, files=files)
    assert len(full.warnings) == MAX_WARNINGS
    found = condition(with_warnings(full, generation=1, now=NOW), "CarriageReturns")
    assert found is not None
    assert "0000, 0001, 0002, 0003, 0004 and 45 more files" in found.message
    assert condition(with_warnings(before, generation=1, now=NOW), "MacOnlyEncrypted") is None
