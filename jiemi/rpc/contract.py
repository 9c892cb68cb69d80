"""What Miwen and Krapao say to each other: frozen values, and the two ports that carry them.

`Krapao` is the port. It has three forms with one contract suite (tests/contract): Krapao's own service
(`jiemi.krapao.service`), the client that reaches that service over Cap'n Proto (`jiemi.rpc.client`), and the fake of
the tests. A `Repository` is a capability: its holder may read that repository, and closing it lets Krapao forget it.

    async with krapao.open(source, credentials, tenant) as repository:
        head = await repository.head(max_age_seconds=90)
        rendered = await repository.render(RenderRequest(head.revision, "secret.enc.yaml", keys))

The trace that a caller works for (`jiemi.tracing.current`) goes with each call of `head`, `files`, `changes` and
`render`, and is that in which the call is answered; `on_moved` of a watch is called in the trace of the call that saw
the ref move.

Every method raises `JiemiError` and nothing else (but trio's own Cancelled). Opening never fails: what is wrong with
the source is raised by the first method called, so that open and head can travel in one round trip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.rpc.keys import DecryptionKey
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import Verified

DEFAULT_PORT = 50208
"""The first version's port."""

MEBIBYTE = 1024 * 1024

MAX_FILE_BYTES = 4 * MEBIBYTE
"""The largest encrypted file that is read. An object in etcd is at most 1.5 MiB (etcd's --max-request-bytes) and SOPS
makes a value about 1.4 times as long, so a file of several full-sized Secrets still fits."""

MAX_RENDERED_BYTES = 8 * MEBIBYTE
"""The most that one file may decrypt to, all documents together."""

MAX_DOCUMENTS = 1_000
"""The most documents in one file."""

MAX_FILES = 1_000
"""The most files that one Decryptor's patterns may match."""

MAX_CHANGES = 1_000
"""The most paths, and the most folders, that one answer of `Repository.changes` names."""

_TENANT = re.compile(r"[A-Za-z0-9._-]{0,64}")
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_revision(text: str) -> bool:
    """Whether the text is a full commit hash, SHA-1 or SHA-256, in lower case."""
    return _REVISION.fullmatch(text) is not None


def require_tenant(text: str) -> None:
    """Refuse what is no tenant's id: at most 64 characters of A-Z a-z 0-9 . _ -.

    Raises:
        JiemiError: InvalidSpec.
    """
    if _TENANT.fullmatch(text) is None:
        raise JiemiError("InvalidSpec", "the tenant's id is longer than 64 characters or has characters of other kinds")


@attrs.frozen
class Head:
    """What the followed ref names now.

    Attributes:
        revision: the commit, a full hash in lower-case hexadecimal.
        ref: full name of the ref that names it; None for a commit that is wanted itself, or where the peer is older.
    """

    revision: str
    ref: str | None = None


@attrs.frozen
class FilesRequest:
    """Which files of one revision are asked for.

    Attributes:
        revision: full commit hash.
        patterns: paths and globs (`jiemi.core.content.globs`), at most 1,000. A file that matches several is one file.
        exclude: globs of files that are left out of what globs match; a path in `patterns` is never left out.
    """

    revision: str
    patterns: tuple[str, ...]
    exclude: tuple[str, ...] = ()


@attrs.frozen
class FileEntry:
    """A file of a revision.

    Attributes:
        path: its path in the repository.
        blob: git's hash of its content as it is in the repository (so of the ciphertext, where it is encrypted).
        config: git's hash of the nearest .sops.yaml above it, or None. Decrypting warns of what that one says, but
            where `RenderRequest.sops_path` names another: ask for that one as a plain path.
    """

    path: str
    blob: str
    config: str | None = None


@attrs.frozen
class Files:
    """The files that match, ordered by path, each once.

    Attributes:
        direct: whether no symbolic link was followed on the way to any of them, or to a .sops.yaml of theirs. False
            where the peer is older.
    """

    revision: str
    entries: tuple[FileEntry, ...]
    direct: bool = False


@attrs.frozen
class Changes:
    """Where two revisions differ. There may be less to it than this says, never more.

    A `Files` that is `direct` is the same for both revisions, except for the revision itself, where no pattern of its
    request matches one of `paths` and no path that a pattern could match is below one of `folders`.

    Attributes:
        paths: of files that one of the revisions has, and the other has not or has otherwise.
        folders: paths with a slash at the end, or "" for the whole tree: anything below may be another, or have another
            .sops.yaml above it.
    """

    paths: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


@attrs.frozen
class NestedPlaces:
    """Where values may be that are SOPS files themselves, which are decrypted in their place.

    They are looked for in each object that a document is, or that is in one of its `lists`. A value that is a SOPS file
    is recognized by its content.

    Attributes:
        having: names with the texts that an object must have under them.
        lacking: names that it must not have.
        texts: names of fields whose values are texts by name.
        encoded: names of fields whose values are base64 by name.
        own: whether the object's own values are such texts.
        lists: names of fields that list further objects.
        unless: names that lead to a text in an object, and last that text: such an object is left as it is.
        content: whether the file itself, where it is wanted whole, may be a SOPS file once more.
    """

    having: tuple[tuple[str, str], ...] = ()
    lacking: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    encoded: tuple[str, ...] = ()
    own: bool = False
    lists: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    content: bool = False


@attrs.frozen
class RenderRequest:
    """One file to decrypt, of one revision.

    Attributes:
        revision: full commit hash; exactly this one is read, whatever arrives meanwhile.
        path: path of the file in the repository, with forward slashes.
        sops_path: path of the .sops.yaml, which must exist where it is given; or None.
        keys: what may open the file's data key.
        whole_file: whether the decrypted file itself is wanted, as `Rendered.content`, and not the documents in it.
        allowed_recipients: patterns of the recipients that may be asked for the data key; empty for all.
        allow_plain: whether a file without SOPS metadata is taken as it is, rather than refused as NotEncrypted. One
            that holds encrypted values all the same is always refused.
        nested: where values may be that are SOPS files themselves. A file that holds one need not be encrypted as a
            whole.
        require_full_mac: whether a file is refused whose MAC covers its encrypted values only.
        format: in which the file is; None where its name states it.
    """

    revision: str
    path: str
    sops_path: str | None = None
    keys: tuple[DecryptionKey, ...] = ()
    whole_file: bool = False
    allowed_recipients: tuple[str, ...] = ()
    allow_plain: bool = False
    nested: tuple[NestedPlaces, ...] = ()
    require_full_mac: bool = False
    format: Format | None = None


@attrs.frozen
class Encryption:
    """What a file says of its encryption: public names, which its writer chose.

    Attributes:
        recipients: of its data key, each with its kind: "age age1…", "AWS KMS arn:aws:kms:…".
        last_modified: when it was encrypted last (RFC 3339), or None where it does not say.
        sops_version: the sops release that wrote it, or None.
        stale_recipients: those that the repository's .sops.yaml does not name; none where it has none.
        key_expires_at: when the first of the keys expires that opened it (RFC 3339), or None where none does.
        mac_only_encrypted: whether the MAC covers encrypted values only, or may; None where Krapao does not say.
    """

    recipients: tuple[str, ...] = ()
    last_modified: str | None = None
    sops_version: str | None = None
    stale_recipients: tuple[str, ...] = ()
    key_expires_at: str | None = None
    mac_only_encrypted: bool | None = None


@attrs.frozen
class Rendered:
    """A decrypted file.

    Attributes:
        revision: the one that was asked for.
        documents: each document as one JSON text in UTF-8 (any JSON value), in the order of the file; empty YAML
            documents are left out. Of a dotenv or INI file one object of texts, or of objects of texts.
        content: of a binary file, and where the whole file was asked for, the file itself, and documents is empty;
            otherwise None.
        encryption: how the file is encrypted.
        vault_address: the Vault server that got a token because nothing names one (the spec, an earlier decryption or
            Krapao's operator); None otherwise.
        encrypted: whether the file as a whole was; False only where a plain one was let through.
        opened: how many values in it were SOPS files and are decrypted.
        carriage_returns: names of dotenv and INI values that hold a carriage return, the first ones.
        format: the one that the request stated, in which the file was read; None where it stated none.
        plain_documents: indexes of those documents that are not encrypted, in a file in which others are.
    """

    revision: str
    documents: tuple[SensitiveBytes, ...]
    content: SensitiveBytes | None = None
    encryption: Encryption = Encryption()
    vault_address: str | None = None
    encrypted: bool = True
    opened: int = 0
    carriage_returns: tuple[str, ...] = ()
    format: Format | None = None
    plain_documents: tuple[int, ...] = ()


class Repository(Protocol):
    """A repository that is open. Methods may be called from several tasks at once."""

    async def head(self, *, max_age_seconds: float) -> Head:
        """The newest revision of the followed ref. Of a source that is one commit it is that one, and all that is
        proven is that the host lets these credentials in: `files` and `render` report one that it does not have.

        Args:
            max_age_seconds: an answer that the host gave at most so long ago will do; 0 asks the host now.

        Raises:
            JiemiError: InvalidUrl, SchemeNotAllowed, HostUnreachable, RepositoryNotFound, RepositoryAccessDenied,
                HostKeyUnknown, TlsVerificationFailed, RefNotFound, GitProtocolError, StorageFailed, Timeout,
                KrapaoUnavailable.
        """
        ...

    async def verify(self, request: FilesRequest) -> Verified:
        """Who signed a revision, where the source wants it signed; and whether the files that match have as many
        signers as it wants for each. Opens no file. `files` and `render` verify by themselves too, and fail as this
        does; `files` alone counts no signers, because it shows no content.

        Raises:
            JiemiError: those of `head`; RevisionNotFound; those of `jiemi.core.reasons.UNVERIFIED`;
                VerificationKeysInvalid, GpgMissing, LimitExceeded; InvalidSpec where the source wants nothing signed.
        """
        ...

    async def files(self, request: FilesRequest) -> Files:
        """The files of one revision that match. Decrypts nothing.

        Raises:
            JiemiError: those of `head` and `verify`; RevisionNotFound; FileNotFound and NotAFile for a pattern that is
                a plain path (a glob leaves out what is no regular file, and may match nothing); LimitExceeded.
        """
        ...

    async def changes(self, before: str, after: str) -> Changes:
        """Where two revisions differ: full commit hashes, of which the second is the newer one as a rule.

        Only what the host has named to this repository's credentials is compared.

        Raises:
            JiemiError: those of `head`; RevisionNotFound where one of them is not known here or no longer to be had;
                LimitExceeded; ProviderNotSupportedYet where the peer is older. Whoever asks looks at all files then.
        """
        ...

    async def render(self, request: RenderRequest) -> Rendered:
        """Decrypt one file of one revision.

        Raises:
            JiemiError: those of `head` and `verify`; FileNotFound, NotAFile, LimitExceeded, NotEncrypted,
                UnknownFormat, KeyMissing, KeyInvalid, MacMismatch, MacOnlyEncrypted, DecryptionFailed, SopsMissing,
                GpgMissing.
        """
        ...

    async def watch(self, on_moved: Callable[[Head], None]) -> None:
        """Call `on_moved` each time anyone's question makes Krapao see that the followed ref moved, until cancelled.

        It asks the host nothing by itself. `on_moved` must not block and must not raise; news that arrive faster than
        they are taken may be merged into the newest.

        Raises:
            JiemiError: KrapaoUnavailable when the connection ends.
        """
        ...


class Krapao(Protocol):
    """The repository service."""

    def open(
        self, source: Source, credentials: GitCredentials, tenant: str = ""
    ) -> AbstractAsyncContextManager[Repository]:
        """A repository, for as long as the context lasts. Never fails by itself and asks the host nothing.

        Args:
            tenant: an opaque id (`require_tenant`) of whom the repository is opened for, the same after a restart. What
                takes time or memory is shared fairly between tenants. It is no credential and lets nobody in, and
                tenants with equal credentials share what is asked of a host. "" is a tenant of its own.
        """
        ...
