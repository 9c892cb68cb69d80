"""spec.source: the repository, what is followed in it, and which files."""

from __future__ import annotations

import re
from typing import ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api
from jiemi.core.api.file_formats import FileFormat, FormatOfFile, format_field, format_of_file, require_format
from jiemi.core.api.provider import CredentialValue
from jiemi.core.content.globs import is_glob

_MAX_DESCRIBED = 4096
"""Characters of the files' description in status; a path is never cut."""


@attrs.frozen
class RepositoryCredentials:
    """The credentials that the repository's host asks for."""

    username: CredentialValue | None = api("User name for https.", default=None, nullable=True)
    token: CredentialValue | None = api("Access token or password for https.", default=None, nullable=True)
    ssh: CredentialValue | None = api(
        "Private key for ssh, in OpenSSH or PEM form, without a passphrase.", default=None, nullable=True
    )
    known_hosts: CredentialValue | None = api(
        "Lines of a known_hosts file with the ssh host's keys, in addition to those that the operator gives Krapao.",
        default=None,
        nullable=True,
    )


@attrs.frozen
class RepositoryRef:
    """The branch, tag or commit that is followed."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("!(has(self.branch) && has(self.tag))", "branch contradicts tag: give one or the other"),
    )

    branch: str | None = api("Name of the branch to follow.", default=None, minLength=1, maxLength=255)
    tag: str | None = api("Name of the tag to follow.", default=None, minLength=1, maxLength=255)
    commit: str | None = api(
        "Full hash of the commit to deploy. While it is set, branch and tag are not followed.",
        default=None,
        pattern="^([0-9a-f]{40}|[0-9a-f]{64})$",
    )

    def __attrs_post_init__(self) -> None:
        if self.branch is not None and self.tag is not None:
            raise FieldError("branch contradicts tag: give one or the other")
        if self.commit is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.commit) is None:
            raise FieldError(
                "must be a full commit hash in lower case @ commit",
                "Give all 40 (or 64) characters of the hash, as `git rev-parse` prints it.",
            )


@attrs.frozen
class Repository:
    """A git repository."""

    url: str = api(
        "URL of the repository: https://, http://, ssh:// or git://, or user@host:path. It must not contain a "
        "password.",
        minLength=1,
        maxLength=2048,
    )
    credentials: RepositoryCredentials | None = api(
        "Credentials that the host asks for. A public repository needs none.", default=None, nullable=True
    )
    ref: RepositoryRef | None = api(
        "Branch, tag or commit to follow. The default is the repository's default branch (HEAD).", default=None
    )


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
                    f"must not begin with !, which takes no file out here @ files[{at}]",
                    "Put what is to be left out into spec.source.exclude, without the !.",
                )
        for at, glob in enumerate(self.exclude):
            if glob.startswith("!"):
                raise FieldError(
                    f"must not begin with !, which takes nothing in again here @ exclude[{at}]",
                    "Write globs that leave out no more than they should.",
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
