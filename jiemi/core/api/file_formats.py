"""Which of sops's formats a file of a Decryptor is in: as its spec states it, or else as the file's name implies.

`sops --input-type` states the same. A stated format applies to encrypted files and plain ones alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from jiemi.core.api.fields import FieldError, api
from jiemi.core.content.formats import Format, format_of
from jiemi.core.content.globs import is_excluded

FORMATS = tuple(each.value for each in Format)
FORMAT_FIELD = "spec.source.format"
FORMATS_FIELD = "spec.source.formats"


def format_field(description: str, **arguments: Any) -> Any:
    """A field that names a format of sops."""
    return api(description, enum=list(FORMATS), **arguments)


def require_format(name: str | None) -> None:
    """Refuse what names no format, which an object may have that is older than its CustomResourceDefinition.

    Raises:
        FieldError: names the field.
    """
    if name is not None and name not in FORMATS:
        raise FieldError(f"must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]} @ format")


@attrs.frozen
class FileFormat:
    """The format of some files."""

    files: str = api(
        "Path or glob of the files. A glob without / matches in any folder: .env.*, *.yaml.enc, apps/**/*.sops.",
        minLength=1,
        maxLength=1024,
    )
    format: str = format_field("Their format, as sops calls it (--input-type).")

    def __attrs_post_init__(self) -> None:
        if not self.files.strip("./ "):
            raise FieldError("must name files @ files")
        require_format(self.format)


@attrs.frozen
class FormatOfFile:
    """The format of one file.

    Attributes:
        format: it.
        field: the field of the spec that states it; None where the file's name implies it.
    """

    format: Format
    field: str | None = None

    @property
    def stated(self) -> Format | None:
        """The format where the spec states it."""
        return self.format if self.field is not None else None


def format_of_file(path: str, formats: Sequence[FileFormat], format: str | None) -> FormatOfFile:
    """The format of a file.

    Args:
        path: of the file in the repository.
        formats: `spec.source.formats`; the first that takes the path counts.
        format: `spec.source.format`, for all others; None: their names imply it.
    """
    for index, each in enumerate(formats):
        if is_excluded(path, (each.files,)):
            return FormatOfFile(Format(each.format), f"{FORMATS_FIELD}[{index}]")
    if format is not None:
        return FormatOfFile(Format(format), FORMAT_FIELD)
    return FormatOfFile(format_of(path))
