"""Decrypts one file of a request, and the files that are values in it, within the bounds of one.

Each goes through the same opener, guard and keys, with the same recipients allowed. Where the operator wants full MACs,
a file that has none is refused before anything of it is sent anywhere.
"""

from __future__ import annotations

from functools import partial

import attrs

from jiemi.core.content.formats import Format
from jiemi.core.content.sops_config import Indents, read_indents
from jiemi.core.errors import JiemiError
from jiemi.krapao.decryption.metadata import MAX_CONFIG_BYTES, encryption_of, joined
from jiemi.krapao.decryption.port import Decrypted, Decrypter, RenderingShare, WantedForm
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.rendering.line_ends import with_carriage_returns
from jiemi.krapao.rendering.nested import open_content, open_values
from jiemi.rpc.contract import Encryption, Rendered, RenderRequest
from jiemi.rpc.keys import VaultKey


class FileOpener:
    """For one request.

    Args:
        config: the .sops.yaml that is for the file.
        threads: for work that takes a while.
        reading: for what may take long.
        repository: the URL of the repository that the file is of.
    """

    def __init__(
        self,
        decrypter: Decrypter,
        request: RenderRequest,
        config: bytes | None,
        threads: FairThreads,
        reading: Reading,
        *,
        repository: str,
    ) -> None:
        self._decrypter = decrypter
        self._request = request
        self._config = config
        self._threads = threads
        self._reading = reading
        self._repository = repository
        self._budget = decrypter.budget()
        self._keys = request.keys
        self._vault_address: str | None = None
        self._indents: Indents | None = None

    async def open(self, data: bytes, format: Format, *, whole: bool) -> tuple[Decrypted, Encryption]:
        """Decrypt the request's file.

        Raises:
            JiemiError: as `Decrypter.decrypt`; MacOnlyEncrypted.
        """
        decrypted = await self._open(data, format, None, whole=whole)
        return decrypted, await self._encryption(data, format, decrypted.key_expires_at)

    async def open_nested(self, rendered: Rendered) -> Rendered:
        """The file with those decrypted that are values in it.

        Raises:
            JiemiError: as `open`, naming the value.
        """
        places = self._request.nested
        if rendered.content is not None:
            if not any(each.content for each in places):
                return rendered
            path, stated = self._request.path, self._request.format
            found = await open_content(rendered.content, path, stated, self._open_whole, self._threads)
            if found is None:
                return rendered
            rendered = attrs.evolve(rendered, content=found.documents[0])
        else:
            found = await open_values(rendered.documents, places, self._open_whole, self._threads)
            if self._request.require_full_mac and not rendered.encrypted and found.count:
                raise JiemiError(
                    "MacOnlyEncrypted",
                    "values of the file are SOPS files, but no MAC covers the object that holds them, and the operator "
                    "wants MACs that cover everything",
                    "Encrypt the whole manifest with sops.",
                )
            rendered = attrs.evolve(rendered, documents=found.documents)
        encryptions = [await self._encryption(data, format, found.key_expires_at) for data, format in found.files]
        return attrs.evolve(
            rendered,
            encryption=joined(rendered.encryption, *encryptions) if encryptions else rendered.encryption,
            vault_address=self._vault_address,
            opened=found.count,
            carriage_returns=(*rendered.carriage_returns, *found.carriage_returns),
        )

    async def _encryption(self, data: bytes, format: Format, key_expires_at: int | None) -> Encryption:
        # Where full MACs are wanted, it has one, or it would not have been opened.
        mac_only = not self._request.require_full_mac and await self._mac_only(data, format)
        read = partial(encryption_of, data, self._config, key_expires_at, mac_only_encrypted=mac_only)
        return await self._threads.run(read)

    async def _mac_only(self, data: bytes, format: Format) -> bool:
        return await self._reading.mac_only(data, format, threads=self._threads)

    async def _open_whole(self, data: bytes, format: Format, output: Format) -> Decrypted:
        return await self._open(data, format, output, whole=True)

    async def _known_indents(self) -> Indents:
        """As the .sops.yaml has them that is for the file: so `sops decrypt` gives it in the repository."""
        if self._indents is None:
            config = self._config if self._config is not None and len(self._config) <= MAX_CONFIG_BYTES else None
            self._indents = await self._threads.run(read_indents, config) if config is not None else Indents()
        return self._indents

    async def _open(self, data: bytes, format: Format, output: Format | None, *, whole: bool) -> Decrypted:
        if self._request.require_full_mac and await self._mac_only(data, format):
            raise JiemiError(
                "MacOnlyEncrypted",
                "the file has mac_only_encrypted, so all that is not encrypted in it can be changed without a "
                "key, and the operator refuses that",
            )
        decrypted = await self._decrypter.decrypt(
            data,
            format,
            self._keys,
            allowed_recipients=self._request.allowed_recipients,
            form=WantedForm(whole=whole, output=output, indents=await self._known_indents() if whole else Indents()),
            rendering=RenderingShare(askers=self._threads.askers, repository=self._repository, budget=self._budget),
        )
        if decrypted.vault_address is not None and self._vault_address is None:
            # No other server gets the token: neither in this file nor in any that is in it.
            self._vault_address = decrypted.vault_address
            self._keys = tuple(
                attrs.evolve(key, pinned_address=decrypted.vault_address) if isinstance(key, VaultKey) else key
                for key in self._keys
            )
        return decrypted


async def with_warning(rendered: Rendered, format: Format, threads: FairThreads) -> Rendered:
    """The file with the names of its values that hold a carriage return."""
    if format not in (Format.DOTENV, Format.INI):
        return rendered
    content = rendered.content.reveal() if rendered.content is not None else None
    documents = [each.reveal() for each in rendered.documents]
    names = await threads.run(with_carriage_returns, documents, content, format)
    return attrs.evolve(rendered, carriage_returns=names) if names else rendered
