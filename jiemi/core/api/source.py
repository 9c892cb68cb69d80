"""spec.source: the repository, what is followed in it, and which files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api
from jiemi.core.api.file_formats import FileFormat, FormatOfFile, format_field, format_of_file, require_format
from jiemi.core.api.repository_credentials import RepositoryCredentials
from jiemi.core.api.repository_proxy import RepositoryProxy
from jiemi.core.api.repository_submodules import RepositorySubmodules
from jiemi.core.api.repository_verification import RepositoryVerification
from jiemi.core.content.globs import is_glob
from jiemi.core.semver import RangeError, read_range

_MAX_DESCRIBED = 4096
"""Characters of the files' description in status; a path is never cut."""


_FOLLOWED = ("branch", "tag", "semver", "name")
"""The fields of which one says what is followed."""


_WANTS_TAG = "verify.mode is for a tag: name one by ref.tag, ref.semver or ref.name (refs/tags/…), without ref.commit"


def _contradictions() -> Iterator[Rule]:
    for one, other in itertools.combinations(_FOLLOWED, 2):
        yield Rule(f"!(has(self.{one}) && has(self.{other}))", f"{one} contradicts {other}: give one or the other")


@attrs.frozen
class RepositoryRef:
    """The branch, tag or commit that is followed, the newest of some tags, or any other ref."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_contradictions(),
        Rule("!has(self.semverFilter) || has(self.semver)", "semverFilter is for semver: give that too"),
    )

    branch: str | None = api("Name of the branch to follow.", default=None, minLength=1, maxLength=255)
    tag: str | None = api("Name of the tag to follow.", default=None, minLength=1, maxLength=255)
    semver: str | None = api(
        "Range of versions, as in >=1.0.0 <2.0.0, ~1.4 or *. The tag with the newest version in it is followed. Tags "
        "are versions with or without a v before them; pre-releases count if the range has one, as in >=1.0.0-0.",
        default=None,
        minLength=1,
        maxLength=512,
    )
    semver_filter: str | None = api(
        "Regular expression (RE2) that is found in the names of the tags that semver chooses from.",
        default=None,
        minLength=1,
        maxLength=512,
    )
    name: str | None = api(
        "Full name of the ref to follow, for refs that are neither branch nor tag: refs/pull/420/head, "
        "refs/merge-requests/1/head.",
        default=None,
        minLength=6,
        maxLength=255,
        pattern="^refs/.+",
    )
    commit: str | None = api(
        "Full hash of the commit to deploy. While it is set, nothing else is followed.",
        default=None,
        pattern="^([0-9a-f]{40}|[0-9a-f]{64})$",
    )

    @property
    def is_tag(self) -> bool:
        """Whether it is tags that are followed."""
        is_named = self.name is not None and self.name.startswith("refs/tags/")
        return self.commit is None and (self.tag is not None or self.semver is not None or is_named)

    def __attrs_post_init__(self) -> None:
        given = [name for name in _FOLLOWED if getattr(self, name) is not None]
        if len(given) > 1:
            raise FieldError(f"{given[0]} contradicts {given[1]}: give one or the other")
        if self.semver_filter is not None and self.semver is None:
            raise FieldError("semverFilter is for semver: give that too")
        if self.semver is not None:
            try:
                read_range(self.semver)
            except RangeError as error:
                raise FieldError(
                    f"must be a range of versions, but it {error} @ semver",
                    "Write a range such as >=1.0.0 <2.0.0, ~1.4 or *.",
                ) from None
        if self.name is not None and not self.name.startswith("refs/"):
            raise FieldError(
                "must be a full name, which begins with refs/ @ name",
                "Write refs/heads/NAME for a branch, refs/tags/NAME for a tag, or what `git ls-remote` shows.",
            )
        if self.commit is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.commit) is None:
            raise FieldError(
                "must be a full commit hash in lower case @ commit",
                "Give all 40 (or 64) characters of the hash, as `git rev-parse` prints it.",
            )


@attrs.frozen
class Repository:
    """A git repository."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.verify) || !has(self.verify.mode) || self.verify.mode == 'Commit' || (has(self.ref) && "
            "!has(self.ref.commit) && (has(self.ref.tag) || has(self.ref.semver) || (has(self.ref.name) && "
            "self.ref.name.startsWith('refs/tags/'))))",
            _WANTS_TAG,
        ),
    )

    url: str = api(
        "URL of the repository: https://, http://, ssh:// or git://, or user@host:path. It must not contain a "
        "password.",
        minLength=1,
        maxLength=2048,
    )
    credentials: RepositoryCredentials | None = api(
        "Credentials that the host asks for. A public repository needs none.", default=None, nullable=True
    )
    proxy: RepositoryProxy | None = api(
        "Proxy through which the host is reached, instead of the operator's. The proxy looks the host's name up.",
        default=None,
        nullable=True,
    )
    ref: RepositoryRef | None = api(
        "Branch, tag, range of tags, other ref or commit to follow. The default is the repository's default branch "
        "(HEAD).",
        default=None,
    )
    verify: RepositoryVerification | None = api(
        "Signatures that a revision must have before any of its files is decrypted.", default=None
    )

    submodules: RepositorySubmodules | None = api(
        "Follows submodules: what files and fileToDecrypt name may be in one. Without it, nothing in a submodule is "
        "looked at.",
        default=None,
    )

    def __attrs_post_init__(self) -> None:
        ref = self.ref
        if self.verify is not None and self.verify.wants_tag and (ref is None or not ref.is_tag):
            raise FieldError(f"{_WANTS_TAG} @ verify.mode")


@attrs.frozen
class SourceSpec:
    """The repository and the files in it. At least one of fileToDecrypt and files is given."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.fileToDecrypt) && dyn(self.fileToDecrypt) != null) || (has(self.files) && size(self.files) > 0)",
            "give fileToDecrypt or files",
        ),
    )

    repository: Repository = api("The git repository.")
    file_to_decrypt: str | None = api(
        "Path of the encrypted file in the repository; globs are not allowed. Its ending determines the format that "
        "sops reads it in: .yaml, .yml, .json, .env or .ini. Any other ending means binary, unless format or formats "
        "says otherwise. Without target, the file must contain Kubernetes objects.",
        default=None,
        minLength=1,
        maxLength=4096,
    )
    files: tuple[str, ...] = api(
        "Paths and globs of files, in addition to or instead of fileToDecrypt. Files that are not encrypted are "
        "applied too. * matches any characters except /, and a folder ** matches any number of folders: "
        "apps/**/*.enc.yaml.",
        default=(),
        maxItems=100,
        items={"minLength": 1, "maxLength": 1024},
    )
    exclude: tuple[str, ...] = api(
        "Globs of files and folders that the globs in files skip. A glob without / matches in any folder: *.md, "
        "charts/.",
        default=(),
        maxItems=100,
        items={"minLength": 1, "maxLength": 1024},
    )
    format: str | None = format_field(
        "Format of every file, whatever its name ends in, as with sops encrypt --input-type: dotenv for "
        ".env.production, yaml for values.yaml.enc, json for .dockerconfigjson.",
        default=None,
        nullable=True,
    )
    formats: tuple[FileFormat, ...] = api(
        "Formats of some of the files. The first entry that matches a file decides, before format.",
        default=(),
        maxItems=50,
    )
    sops_path: str | None = api(
        "Path of the .sops.yaml in the repository. Decrypting does not need it, but a path that is given must exist.",
        default=None,
        nullable=True,
        maxLength=4096,
    )

    def __attrs_post_init__(self) -> None:
        if self.file_to_decrypt is None and not self.files:
            raise FieldError("give fileToDecrypt or files")
        require_format(self.format)
        if self.file_to_decrypt is not None and is_glob(self.file_to_decrypt):
            # The file that it names must be encrypted and hold an object; a glob may match files that are neither.
            raise FieldError(
                "must be the path of one file, not a glob @ fileToDecrypt", "Put the glob into spec.source.files."
            )
        for at, glob in enumerate(self.files):
            if glob.startswith("!") and is_glob(glob):
                raise FieldError(
                    f"must not begin with !, which does not exclude files here @ files[{at}]",
                    "Put globs of files to leave out into spec.source.exclude, without the !.",
                )
        for at, glob in enumerate(self.exclude):
            if glob.startswith("!"):
                raise FieldError(
                    f"must not begin with !, which does not include files again here @ exclude[{at}]",
                    "Write globs that exclude only the files to leave out.",
                )

    def format_of(self, path: str) -> FormatOfFile:
        """The format of the file at a path."""
        return format_of_file(path, self.formats, self.format)

    @property
    def described(self) -> str:
        """The files in one line: the path of fileToDecrypt, and the globs."""
        named = ((self.file_to_decrypt,) if self.file_to_decrypt is not None else ()) + self.files
        text = ", ".join(named)
        return text if len(text) <= _MAX_DESCRIBED else f"{text[: _MAX_DESCRIBED - 1]}…"
