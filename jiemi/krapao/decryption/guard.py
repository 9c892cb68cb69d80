"""The guard of one run: sops's key service for an opener, in front of the holders.

    opener ── Decrypt(master key, wrapped data key) ─> judge ─> holder ─> a data key's length? ─> opener
                                                        └─ refused, counted, with a typed reason

Each run has a socket of its own in its folder, takes one connection on it, and only from the opener's own process. What
the opener sends was chosen by the file's writer; so it is a structure that is compared, rebuilt and bounded,
and nothing in it is believed. `Encrypt` never passes.
"""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import attrs
import structlog
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import PATIENCE_SECONDS
from jiemi.core.errors import Failure, JiemiError
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption import keyservice
from jiemi.krapao.decryption.age_keys import AgeIdentities, read_age_key
from jiemi.krapao.decryption.destinations import (
    Refusal,
    VaultTrust,
    allowed_by_policy,
    is_named,
    judge,
    name_of,
    provider_of,
    service_name_of,
)
from jiemi.krapao.decryption.grpc import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    GrpcConnectionError,
    GrpcStatusError,
    GrpcTooLargeError,
    serve_calls,
)
from jiemi.krapao.decryption.holder_start import HolderKey, HolderPrograms
from jiemi.krapao.decryption.holders import Held, Holders
from jiemi.krapao.decryption.keyservice import AgeMasterKey, MasterKey, VaultMasterKey
from jiemi.krapao.decryption.named_servers import named_servers
from jiemi.krapao.decryption.port import RenderingShare
from jiemi.krapao.decryption.verdicts import Outcome, Verdict, of_status
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.network.connecting import RequireDestination, led_astray, require_destination
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, DecryptionKey, HuaweiKey, PgpKey, VaultKey
from jiemi.tracing.current import span

_log = structlog.get_logger("jiemi.krapao.decryption")

DATA_KEY_BYTES = (32, 33)
"""sops's data keys are of 32 bytes (sops.go, GenerateDataKey); a part of a divided one has one more (shamir.go)."""

_MAX_CIPHERTEXT_BYTES = 16 * 1024
"""Of a wrapped data key. For a post-quantum age recipient, or an RSA key of 16,384 bits by pgp, it takes 3 KiB."""
_GO_FATAL = 2
_END_SECONDS = 2
_PEER_CREDENTIALS = struct.Struct("iII")


@attrs.frozen
class KeyServices:
    """How guards reach the services that decrypt data keys.

    Attributes:
        holders: the processes that have the credentials.
        programs: what further holders are started from.
        require_server: refuses servers by their addresses.
    """

    holders: Holders
    programs: HolderPrograms
    settings: KrapaoSettings
    metrics: KrapaoMetrics | None = None
    require_server: RequireDestination = require_destination


class Guard:
    """Answers an opener's requests, and remembers what became of each.

    Args:
        keys: of the Decryptor; nothing else opens a file of its.
        allowed_recipients: patterns of the master keys that may be asked, by the operator's policy; empty for all.
        rendering: the one that the run is a part of; its budget bounds the requests.
    """

    def __init__(
        self,
        keys: Sequence[DecryptionKey],
        services: KeyServices,
        *,
        allowed_recipients: Sequence[str] = (),
        rendering: RenderingShare = RenderingShare(),  # noqa: B008 - frozen
    ) -> None:
        settings, budget = services.settings, rendering.budget
        self._repository = rendering.repository
        self._keys = tuple(keys)
        self._holders = services.holders
        self._programs = services.programs
        self._settings = settings
        self._metrics = services.metrics
        self._askers = rendering.askers or Askers()
        self._max_requests = budget.key_requests if budget is not None else settings.max_key_requests
        self._asking_since: float | None = None
        self._allowed_recipients = tuple(allowed_recipients)
        self._trust = VaultTrust(
            allowed=settings.vault_addresses,
            own=settings.own_vault_address,
            naming_required=settings.require_named_vault,
        )
        self._requests = 0
        self._opener = 0
        self._expected = trio.Event()
        self._require_server = services.require_server
        self._names: dict[DecryptionKey, tuple[str, ...]] = {}
        self._reachable: set[str] = set()
        self.outcomes: list[Outcome] = []
        self.vault_address: str | None = None
        self.key_expires_at: int | None = None

    @property
    def keys(self) -> tuple[DecryptionKey, ...]:
        """Those that it was made with."""
        return self._keys

    @property
    def measures(self) -> Measures:
        """What confines the processes of this run."""
        return self._programs.measures

    def waits_long(self) -> bool:
        """Whether the run does nothing but wait for a key service, and has for a while."""
        since = self._asking_since
        return since is not None and trio.current_time() - since >= PATIENCE_SECONDS

    def expect(self, pid: int) -> None:
        """Note which process the opener is, before it can have connected."""
        self._opener = pid
        self._expected.set()

    async def serve(self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen at a path, and answer the opener until it is gone. Has no deadline: the run has, and cancels this."""
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with listener:
            await listener.bind(str(path))
            listener.listen(1)
            task_status.started()
            while True:
                accepted, _ = await listener.accept()
                async with trio.SocketStream(accepted) as stream:
                    await self._expected.wait()  # a quick opener may be here before its starter says which it is
                    if _peer(stream) != self._opener:
                        continue
                    path.unlink()  # noqa: ASYNC240 - in memory
                    listener.close()
                    await serve_calls(stream, self.answer, on_too_large=self._refuse_too_large)
                    return

    def _refuse_too_large(self) -> None:
        self._note(Outcome("", "a wrapped data key that is too large", Verdict.TOO_MANY))

    async def answer(self, method: str, message: bytes) -> bytes:
        """Answer one call.

        Raises:
            GrpcStatusError: it is not answered; the text is our own, and sops prints it to nobody.
        """
        if method != keyservice.DECRYPT:
            self._note(
                Outcome(
                    "", "", Verdict.REFUSED, Failure("DestinationNotAllowed", "sops asked for more than a data key")
                )
            )
            raise GrpcStatusError(PERMISSION_DENIED if method == keyservice.ENCRYPT else UNIMPLEMENTED)
        try:
            request = keyservice.read_decrypt_request(message)
        except keyservice.UnreadableError:
            raise GrpcStatusError(INVALID_ARGUMENT) from None
        if request.key is None:
            self._note(Outcome("", "a key of an unknown kind", Verdict.NOT_GIVEN))
            raise GrpcStatusError(FAILED_PRECONDITION, "no key of this kind is given")
        name, provider = name_of(request.key), provider_of(request.key)
        self._requests += 1
        if self._requests > self._max_requests or len(request.ciphertext) > _MAX_CIPHERTEXT_BYTES:
            self._note(Outcome(provider, name, Verdict.TOO_MANY))
            raise GrpcStatusError(RESOURCE_EXHAUSTED)
        refused = allowed_by_policy(request.key, self._allowed_recipients)
        if refused is not None:
            failure = Failure("PolicyDenied", refused.message)
            self._note(Outcome(provider, name, Verdict.UNUSABLE, failure))
            raise GrpcStatusError(PERMISSION_DENIED)
        given = [key for key in self._keys if key.provider == provider]
        if not given:
            self._note(Outcome(provider, name, Verdict.NOT_GIVEN))
        for key in given:
            measured = self._metrics.key_request_measured(provider) if self._metrics is not None else nullcontext()
            with span("key_request", provider=provider), measured:
                found = await self._ask(key, request.key, request.ciphertext)
            if isinstance(found, bytes):
                self._note(Outcome(provider, name, Verdict.OPENED))
                return keyservice.write_decrypt_response(found)
            self._note(attrs.evolve(found, provider=provider, recipient=name))
        raise GrpcStatusError(FAILED_PRECONDITION, "no key that is given opens it")

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        _log.debug("key_request", provider=outcome.provider, verdict=outcome.verdict.name.lower())
        if self._metrics is not None:
            self._metrics.key_request(outcome.provider or "none", outcome.verdict.name.lower())

    async def _ask(self, key: DecryptionKey, asked: MasterKey, ciphertext: bytes) -> bytes | Outcome:
        """The data key, or what became of the request."""
        if not isinstance(key, AgeKey | PgpKey | HuaweiKey) and key.ambient:
            try:
                self._settings.operator.identity(key.provider)
            except JiemiError as error:
                return Outcome("", "", Verdict.UNUSABLE, error.failure)
        judged = judge(asked, key, self._trust)
        if isinstance(judged, Refusal):
            return Outcome("", "", Verdict.REFUSED, Failure("DestinationNotAllowed", judged.message))
        refused = self._not_lent(judged, key) or await self._refused_server(judged, key)
        if refused is not None:
            return refused
        named = True
        address = ""
        if isinstance(judged, VaultMasterKey) and isinstance(key, VaultKey):
            address = judged.address
            named = is_named(address, key, self._trust)
            if not named:
                self._trust = attrs.evolve(self._trust, first=address)
        if isinstance(key, AgeKey) and isinstance(judged, AgeMasterKey):
            identities = self._identities(key)
            if isinstance(identities, Outcome):
                return identities
            self._names[key] = identities.recipients
            if not identities.may_open(judged.recipient):
                return Outcome("", "", Verdict.NOT_OPENED)
        found = await self._ask_holder(key, HolderKey.of(key, address), judged, ciphertext)
        if isinstance(found, bytes) and not named:
            self.vault_address = address
        return found

    def _not_lent(self, judged: MasterKey, key: DecryptionKey) -> Outcome | None:
        """What becomes of a request for a key that Krapao's own identity is not lent for."""
        if isinstance(key, AgeKey | PgpKey | HuaweiKey) or not key.ambient:
            return None
        bounds = self._settings.operator.bounds
        refused = bounds.refusal(key.provider, service_name_of(judged), self._repository)
        return Outcome("", "", Verdict.UNUSABLE, refused.failure) if refused is not None else None

    async def _refused_server(self, judged: MasterKey, key: DecryptionKey) -> Outcome | None:
        """What becomes of a request whose server is at an address that Krapao does not connect to."""
        for field, url in named_servers(judged, key, self._trust):
            if url in self._reachable:
                continue
            try:
                await self._require_server(url, self._settings.addresses, field)
            except JiemiError as error:
                return Outcome("", "", Verdict.UNUSABLE, error.failure)
            self._reachable.add(url)
        return None

    def _identities(self, key: AgeKey) -> AgeIdentities | Outcome:
        try:
            return read_age_key(key, plugins=bool(self._settings.age_plugins_path))
        except JiemiError as error:
            return Outcome("", "", Verdict.UNUSABLE, error.failure)

    async def _ask_holder(
        self, key: DecryptionKey, wanted: HolderKey, asked: MasterKey, ciphertext: bytes
    ) -> bytes | Outcome:
        message = keyservice.write_decrypt_request(keyservice.DecryptRequest(asked, ciphertext))
        self._asking_since = trio.current_time()
        try:
            return await self._ask_in_time(key, wanted, message)
        finally:
            self._asking_since = None

    async def _ask_in_time(  # noqa: PLR0911 - a table of how a call can end
        self, key: DecryptionKey, wanted: HolderKey, message: bytes
    ) -> bytes | Outcome:
        held: Held | None = None
        refusals = 0
        with trio.move_on_after(self._settings.key_service_timeout_seconds):
            try:
                async with self._holders.use(wanted, self._programs, self._askers) as held, held.turn:
                    self._names[key] = held.names
                    refusals = held.refusals()
                    data_key = keyservice.read_decrypt_response(await held.client.call(keyservice.DECRYPT, message))
            except JiemiError as error:
                return Outcome("", "", _VERDICTS.get(error.failure.reason, Verdict.UNUSABLE), error.failure)
            except GrpcStatusError as error:
                if held is not None and held.refusals() > refusals:
                    return _led_astray(wanted)
                return Outcome("", "", of_status(wanted.key.provider, error))
            except GrpcTooLargeError:
                return Outcome("", "", Verdict.NOT_OPENED)  # what was wrapped is no data key
            except (GrpcConnectionError, keyservice.UnreadableError):
                if held is None:
                    return Outcome("", "", Verdict.HOLDER_FAILED)
                ended = await self._ended(wanted, held)
                held.failed()  # after that: it would end the process in its own way
                return ended
            # What was wrapped may be no data key, but something else of the same recipient's.
            if len(data_key) not in DATA_KEY_BYTES:
                return Outcome("", "", Verdict.NOT_OPENED)
            if held.expires_at is not None:
                self.key_expires_at = min(held.expires_at, self.key_expires_at or held.expires_at)
            return data_key
        if held is not None:
            held.failed()
            if held.refusals() > refusals:
                return _led_astray(wanted)
        return self._waited(wanted, called=held is not None)

    async def _ended(self, wanted: HolderKey, held: Held) -> Outcome:
        """What it means that a holder's connection ended while it was asked."""
        with trio.move_on_after(_END_SECONDS):
            status = await held.wait()
            # Of Go's runtime where memory is refused, or of a signal where processor time is. age and gpg do nothing
            # that would end them so but unpack what the file's writer has sealed.
            if wanted.key.provider in ("age", "pgp") and status in (_GO_FATAL, -signal.SIGXCPU):
                failure = Failure(
                    "LimitExceeded", "opening a wrapped data key took more memory or time than Krapao's limit"
                )
                return Outcome("", "", Verdict.UNUSABLE, failure)
        return Outcome("", "", Verdict.HOLDER_FAILED)

    def _waited(self, wanted: HolderKey, *, called: bool) -> Outcome:
        """What it means that no answer came in time."""
        within = f"within {self._settings.key_service_timeout_seconds:g} s"
        if not called:
            failure = Failure("KeyHolderFailed", f"no process to hold the key could be had {within}")
            return Outcome("", "", Verdict.HOLDER_FAILED, failure)
        if wanted.key.provider in ("age", "pgp"):
            failure = Failure("KeyHolderFailed", f"the process that holds the key gave no answer {within}")
            return Outcome("", "", Verdict.HOLDER_FAILED, failure)
        failure = Failure("KeyServiceUnreachable", f"a key service gave no answer {within}")
        return Outcome("", "", Verdict.UNREACHABLE, failure)

    @property
    def requests(self) -> int:
        """How many data keys were asked for."""
        return self._requests

    @property
    def waited_for_others(self) -> bool:
        """Whether a key service or a holder gave no answer to some request."""
        return any(each.verdict in (Verdict.UNREACHABLE, Verdict.HOLDER_FAILED) for each in self.outcomes)

    @property
    def given(self) -> tuple[str, ...]:
        """Public names of the keys given; of one that was not asked only its kind."""
        return tuple(name for key in self._keys for name in self._names.get(key, (f"a key for {key.provider}",)))


def _led_astray(wanted: HolderKey) -> Outcome:
    return Outcome("", "", Verdict.UNUSABLE, led_astray(f"spec.provider.{wanted.key.provider}").failure)


_VERDICTS = {
    "KeyServiceUnreachable": Verdict.UNREACHABLE,
    "KeyServiceDenied": Verdict.DENIED,
    "KeyHolderFailed": Verdict.HOLDER_FAILED,
}


def _peer(stream: trio.SocketStream) -> int:
    """The process that is connected (SO_PEERCRED of unix(7))."""
    data = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid: int = _PEER_CREDENTIALS.unpack(data)[0]
    return pid
