"""Files -> the objects that they describe, and what went wrong with the others.

A file that can't be decrypted, or a document that is no Kubernetes object, keeps nothing else from being applied.

What is decrypted is in memory until it is applied, and several Decryptors are decrypted at once. So each has a small
room; `NeedsMore` is raised before anything is changed where one needs more, and it is rendered again when no other such
Decryptor is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from jiemi.concurrency.for_each import for_each
from jiemi.core.api.conditions import CARRIAGE_RETURNS, MAC_ONLY_ENCRYPTED
from jiemi.core.api.decryptor_status import EncryptionStatus, FileStatus, FileWarning
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.content.globs import is_glob
from jiemi.core.content.tool_files import with_exclusion
from jiemi.core.decisions.status_facts import Facts, joined_encryption
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.memory import held_bytes
from jiemi.core.objects.encrypted_content import CIPHERTEXT_ANNOTATION, KEEP, ciphertext_in, kind_objection
from jiemi.core.objects.manifests import Manifest, look_like_objects, read_manifests
from jiemi.core.objects.target import may_hold_objects, require_form, target_manifest, target_values, wants_whole_file
from jiemi.core.sensitive import SensitiveBytes
from jiemi.miwen.reconcile.file_changes import path_in_tree
from jiemi.rpc.contract import NestedPlaces, Rendered, RenderRequest, Repository
from jiemi.rpc.keys import DecryptionKey, VaultKey
from jiemi.tracing.current import span

MAX_DECRYPTOR_BYTES = 32 * 1024 * 1024
"""The most that the files of one Decryptor may decrypt to together: they are in memory until they are applied."""

MAX_OBJECT_BYTES = 48 * 1024 * 1024
"""The most memory that the objects of one Decryptor may take once they are read: `{},` is three bytes in a file, and
twenty times as many as a mapping."""

SMALL_BYTES = 4 * 1024 * 1024
"""The most that its files may decrypt to where others may take as much as they need."""

SMALL_OBJECT_BYTES = 8 * 1024 * 1024
"""The most memory that its objects may take there."""

_AT_ONCE = 4
"""How many files of one Decryptor are decrypted at once."""

_MAX_NAMES = 5
"""How many names of values one warning has."""

SECRET_VALUES = NestedPlaces(
    having=(("apiVersion", "v1"), ("kind", "Secret")),
    texts=("stringData",),
    encoded=("data",),
    lists=("items",),
    unless=("metadata", "annotations", CIPHERTEXT_ANNOTATION, KEEP),
)
"""Where a value may be a SOPS file itself, which is decrypted: in a Secret, and in those of a List."""

TARGET_VALUES = NestedPlaces(own=True, lacking=("apiVersion",), content=True)
"""The same, in a file that becomes a Secret."""


class NeedsMore(Exception):
    """The files need more memory than there is beside others. Nothing was changed."""


@attrs.frozen
class Rendering:
    """What the files were rendered to.

    Attributes:
        manifests: what they describe, ordered by file and document.
        failures: why a file is missing there, or not whole, by its path.
        facts: what was learnt from the files; None where nothing was.
        warnings: the warnings about the files that were read.
        is_small: whether there is room for the files beside those of other Decryptors.
    """

    manifests: tuple[Manifest, ...]
    failures: Mapping[str, Failure]
    facts: Facts | None
    warnings: tuple[FileWarning, ...] = ()
    is_small: bool = True

    def without_manifests(self) -> Rendering:
        """The same, once the manifests are read: what becomes of them takes as much memory again."""
        return attrs.evolve(self, manifests=())


@attrs.frozen
class Renderer:
    """Renders the files of one revision.

    Attributes:
        repository: where the files are.
        spec: the spec of the Decryptor.
        revision: full commit hash.
        keys: the keys that open them.
        bounded_keys: by path, the same keys with the bounds of the operator's policy; a path that is missing has no
            bounds.
        recipients: by path, the patterns of the recipients that may be asked; a path that is missing may ask all.
        facts: what is known of the files so far.
        full_mac: by path, whether a file is refused whose MAC covers its encrypted values only.
        alone: whether no other Decryptor takes more than a small room at the same time, so that this one may.
    """

    repository: Repository
    spec: DecryptorSpec
    revision: str
    keys: tuple[DecryptionKey, ...]
    recipients: Mapping[str, tuple[str, ...]]
    facts: Facts | None
    bounded_keys: Mapping[str, tuple[DecryptionKey, ...]] = attrs.field(factory=dict)
    full_mac: Callable[[str], bool] = lambda _: False
    alone: bool = True

    async def render(
        self, files: Sequence[FileStatus], *, whole: bool, on_file: Callable[[], None] = lambda: None
    ) -> Rendering:
        """Render files.

        Args:
            whole: whether they are all files of the Decryptor, so that nothing that is known of others is kept.
            on_file: called after each file.

        Raises:
            JiemiError: what is wrong with the repository or with Krapao, and so with every file; LimitExceeded.
            NeedsMore: the files need more than a small room, and the Decryptor is not alone.
        """
        found: dict[str, _File] = {}
        failures: dict[str, Failure] = {}
        size = 0
        vault = self.spec.provider.vault
        names_none = vault is not None and vault.address is None
        address = self.facts.vault_address if self.facts is not None and names_none else None

        async def one(file: FileStatus) -> None:
            nonlocal address, size
            try:
                with span("render", path=file.path):
                    done = await self._file(file.path, address)
            except JiemiError as error:
                if error.failure.reason in _OF_ALL_FILES:
                    raise
                failures[file.path] = self._with_mend(file.path, error.failure)
                return
            finally:
                on_file()
            found[file.path] = done
            if names_none:
                address = address or done.rendered.vault_address
            size += done.size
            self._require_room(size, SMALL_BYTES)
            if size > MAX_DECRYPTOR_BYTES:
                limit = f"{MAX_DECRYPTOR_BYTES // 1024**2} MiB"
                raise JiemiError(
                    "LimitExceeded", f"the files decrypt to more than {limit} together: split the Decryptor"
                )

        # The first file may name the Vault server for all. So they go one by one until one has.
        await for_each(files, one, at_once=1 if names_none and address is None else _AT_ONCE)
        in_order = {file.path: found.pop(file.path) for file in files if file.path in found}
        manifests, more, held = self._manifests(in_order, all_read=not failures)
        failures |= {path: self._with_mend(path, failure) for path, failure in more.items()}
        warnings = tuple(warning for path, file in in_order.items() for warning in _warnings(path, file.rendered))
        facts = self._facts(list(in_order.values()), address, whole=whole)
        return Rendering(manifests, failures, facts, warnings, size <= SMALL_BYTES and held <= SMALL_OBJECT_BYTES)

    def _require_room(self, size: int, small: int) -> None:
        if size > small and not self.alone:
            raise NeedsMore

    async def _file(self, path: str, pinned: str | None) -> _File:
        target = self.spec.target
        is_the_one = self._is_the_one(path)
        found = self.spec.source.format_of(path)
        require_form(target, path, found)
        whole, objects = wants_whole_file(target, found.format), may_hold_objects(found.format)
        as_target = whole and (is_the_one or not objects)
        rendered = await self._render(path, whole_file=as_target, pinned=pinned, allow_plain=not is_the_one)
        if target is None:
            return _File(rendered, of_target=False)
        if is_the_one or not objects:
            return _File(rendered, of_target=True)
        if look_like_objects(rendered.documents):
            return _File(rendered, of_target=False)
        if whole:
            rendered = await self._render(path, whole_file=True, pinned=pinned, allow_plain=True)
        return _File(rendered, of_target=True)

    async def _render(self, path: str, *, whole_file: bool, pinned: str | None, allow_plain: bool) -> Rendered:
        keys = tuple(
            attrs.evolve(key, pinned_address=pinned) if pinned is not None and isinstance(key, VaultKey) else key
            for key in self.bounded_keys.get(path, self.keys)
        )
        require_full_mac = self.full_mac(path)
        stated = self.spec.source.format_of(path)
        rendered = await self.repository.render(
            RenderRequest(
                self.revision,
                path,
                self.spec.source.sops_path,
                keys,
                whole_file=whole_file,
                allowed_recipients=self.recipients.get(path, ()),
                allow_plain=allow_plain,
                nested=self._nested,
                require_full_mac=require_full_mac,
                format=stated.stated,
            )
        )
        if rendered.format is not stated.stated:
            raise JiemiError(
                "ProviderNotSupportedYet",
                f"{path}: {stated.field} states the file's format, which this Krapao does not know of",
            )
        mac_only = rendered.encryption.mac_only_encrypted
        if require_full_mac and (rendered.encrypted or rendered.opened) and mac_only is not False:
            # An older Krapao does not know what it was asked for.
            raise JiemiError(
                "ProviderNotSupportedYet" if mac_only is None else "MacOnlyEncrypted",
                f"{path}: the operator refuses files with mac_only_encrypted, and Krapao can not say that it is none",
            )
        return rendered

    @property
    def _nested(self) -> tuple[NestedPlaces, ...]:
        target = self.spec.target
        if target is None or target.kind != "Secret" or target.annotations.get(CIPHERTEXT_ANNOTATION) == KEEP:
            return (SECRET_VALUES,)
        return (SECRET_VALUES, TARGET_VALUES)

    def _is_the_one(self, path: str) -> bool:
        """Whether it is fileToDecrypt, which must be encrypted, and hold something."""
        named = self.spec.source.file_to_decrypt
        return named is not None and path == path_in_tree(named)

    def _is_named(self, path: str) -> bool:
        """Whether the spec names the file, and not only a glob that it matches."""
        named = (path_in_tree(each) for each in self.spec.source.files if not is_glob(each))
        return self._is_the_one(path) or path in named

    def _with_mend(self, path: str, failure: Failure) -> Failure:
        return failure if self._is_named(path) else with_exclusion(path, failure)

    def _objection(self, manifest: Manifest, rendered: Rendered) -> Failure | None:
        """Why an object may not be applied because of what was, or was not, decrypted in it."""
        failure = ciphertext_in(manifest)
        if failure is None and rendered.encrypted and manifest.document - 1 not in rendered.plain_documents:
            failure = kind_objection(manifest, named=self._is_named(manifest.file), allowed=self.spec.encrypted_kinds)
        return failure

    def _manifests(
        self, files: dict[str, _File], *, all_read: bool
    ) -> tuple[tuple[Manifest, ...], dict[str, Failure], int]:
        """The objects, why a file has none or not all, and how much memory the objects take.

        Args:
            files: what was decrypted. Of each no more than what is known of it is left: both take too much.
            all_read: whether these are all of them.
        """
        manifests: list[Manifest] = []
        failures: dict[str, Failure] = {}
        values: dict[str, Mapping[str, SensitiveBytes]] = {}
        held = 0
        for path, file in tuple(files.items()):
            files[path] = file.emptied()
            try:
                if self.spec.target is not None and file.of_target:
                    values[path] = target_values(
                        self.spec.target, path=path, documents=file.rendered.documents, content=file.rendered.content
                    )
                    held += sum(map(len, values[path].values()))
                    self._require_room(held, SMALL_OBJECT_BYTES)
                    continue
                rendered = file.rendered
                objects, broken = read_manifests(
                    rendered.documents, path=path, decrypted=rendered.encrypted, plain=rendered.plain_documents
                )
                held += sum(held_bytes(each.body) for each in objects)
                self._require_room(held, SMALL_OBJECT_BYTES)
                if held > MAX_OBJECT_BYTES:
                    raise _TooMuch(path)
                judged = [(each, self._objection(each, file.rendered)) for each in objects]
                manifests += [each for each, failure in judged if failure is None]
                broken += tuple(failure for _, failure in judged if failure is not None)
                if broken:
                    failures[path] = broken[0]
                elif not objects and self._is_the_one(path):
                    raise JiemiError("NotAKubernetesObject", f"{path} holds no document at all")
            except _TooMuch:
                raise
            except JiemiError as error:
                failures[path] = error.failure
                all_read &= not file.of_target
        # Without the keys of a file that can't be read, they would be taken out of the object.
        if self.spec.target is not None and values and all_read:
            try:
                manifest = target_manifest(self.spec.target, values)
                left = ciphertext_in(manifest)
                if left is not None:
                    raise JiemiError.of(left)
                manifests.append(manifest)
            except JiemiError as error:
                failures |= dict.fromkeys(values, error.failure)
        return tuple(manifests), failures, held

    def _facts(self, files: Sequence[_File], vault_address: str | None, *, whole: bool) -> Facts | None:
        known = [self.facts.encryption] if self.facts is not None and not whole else []
        known += [_encryption(file.rendered) for file in files if file.rendered.encrypted or file.rendered.opened]
        return Facts(joined_encryption(known), vault_address) if files or known else None


class _TooMuch(JiemiError):
    """The objects of all files together take too much memory."""

    def __init__(self, path: str) -> None:
        limit = f"{MAX_OBJECT_BYTES // 1024**2} MiB"
        super().__init__(
            "LimitExceeded",
            f"the objects of the files, up to {path}, take more than {limit} of memory: split the Decryptor",
        )


_OF_ALL_FILES = frozenset(
    {
        *("RepositoryAccessDenied", "RepositoryNotFound", "HostKeyUnknown", "InvalidUrl", "SchemeNotAllowed"),
        *("HostUnreachable", "TlsVerificationFailed", "RefNotFound", "RevisionNotFound", "GitProtocolError"),
        *("StorageFailed", "SopsMissing", "GpgMissing", "KrapaoUnavailable", "ProviderNotSupportedYet"),
        *("AmbientIdentityNotAllowed", "KeyInvalid"),
    }
)
"""A failure with one of these reasons is a failure of all files, and not of one."""


def _warnings(path: str, rendered: Rendered) -> Iterator[FileWarning]:
    if rendered.encryption.mac_only_encrypted:
        yield FileWarning(path, MAC_ONLY_ENCRYPTED)
    if rendered.carriage_returns:
        names = rendered.carriage_returns
        yield FileWarning(path, CARRIAGE_RETURNS, names[:_MAX_NAMES], len(names[_MAX_NAMES:]) or None)


def _encryption(rendered: Rendered) -> EncryptionStatus:
    """How a file is encrypted, as the status shows it."""
    found = rendered.encryption
    return EncryptionStatus(
        found.recipients, found.last_modified, found.sops_version, found.stale_recipients, found.key_expires_at
    )


@attrs.frozen
class _File:
    rendered: Rendered
    of_target: bool

    @property
    def size(self) -> int:
        content = self.rendered.content
        return sum(map(len, self.rendered.documents)) + (len(content) if content is not None else 0)

    def emptied(self) -> _File:
        """The same file without what was decrypted."""
        return attrs.evolve(self, rendered=attrs.evolve(self.rendered, documents=(), content=None))
