"""Starts one holder: what each kind of credentials needs, a folder of its own, the process, the connection.

What is acquired is put on the caller's stack, in that order, so that it goes in the reverse one: the process first.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from jiemi.core.addresses import normal_address
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.judged_connects import ConnectJudge, granted_destinations
from jiemi.krapao.confinement.private_folders import private_folder, require_memory, write_file
from jiemi.krapao.confinement.processes import Limits, Program, running
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, Measures, Sandbox
from jiemi.krapao.decryption.age_keys import read_age_key
from jiemi.krapao.decryption.environments import EMPTY_ENVIRONMENT, NO_NETWORK_ENVIRONMENT, given_name, plan
from jiemi.krapao.decryption.gpg import GPG_FILES, open_keyring
from jiemi.krapao.decryption.grpc import GrpcClient
from jiemi.krapao.decryption.vault_login import vault_token
from jiemi.krapao.network.connecting import Permit, permit_by
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, DecryptionKey, HuaweiKey, PgpKey, VaultKey

_CONNECT_POLL_SECONDS = 0.002
_LEASE_MARGIN_SECONDS = 30
"""A holder ends so long before its token does, so that no call meets a token that has just ended."""

NETWORK_FILES = tuple(
    map(
        Path,
        (
            "/etc/resolv.conf",
            "/etc/hosts",
            "/etc/host.conf",
            "/etc/nsswitch.conf",
            "/etc/gai.conf",
            "/etc/services",
            # Where Go looks for authorities (crypto/x509/root_linux.go), and not the private keys beside them
            "/etc/ssl/certs",
            "/etc/ssl/cert.pem",
            "/etc/ssl/ca-bundle.pem",
            "/etc/pki/tls/certs",
            "/etc/pki/tls/cacert.pem",
            "/etc/pki/ca-trust/extracted",
            "/etc/ca-certificates/extracted",
            "/usr/share/ca-certificates",
            "/usr/local/share/ca-certificates",
            "/run/systemd/resolve",
        ),
    )
)
"""What a client of a service in the net reads: names' addresses and authorities."""


@attrs.frozen
class HolderKey:
    """What tells one holder from another.

    Attributes:
        key: the credentials, without what only the guard looks at.
        vault_address: for Vault, the one server that gets the token; otherwise "".
    """

    key: DecryptionKey
    vault_address: str = ""

    @classmethod
    def of(cls, key: DecryptionKey, vault_address: str = "") -> HolderKey:
        for guarded in ("allowed_keys", "allowed_vaults"):
            if hasattr(key, guarded):
                key = attrs.evolve(key, **{guarded: ()})  # type: ignore[arg-type]
        if isinstance(key, VaultKey):
            key = attrs.evolve(key, pinned_address=None)
        return cls(key, vault_address)


@attrs.frozen
class HolderPrograms:
    """What holders are made of, as it was found just now.

    Attributes:
        sops, gpg: paths of the programs; gpg is None where there is none.
        measures: what confines them.
    """

    sops: Path
    gpg: Path | None
    measures: Measures


async def start_holder(
    stack: contextlib.AsyncExitStack,
    wanted: HolderKey,
    programs: HolderPrograms,
    settings: KrapaoSettings,
    limits: Limits,
) -> Started:
    """Start a holder and connect to it. Has no deadline but the caller's.

    Args:
        stack: owns all that it is made of, also when this fails.
        limits: of each process; the time is that of each program that is run on the way.

    Raises:
        JiemiError: as `Holders.use`.
    """
    match wanted.key:
        case PgpKey():
            given = await _give_pgp(stack, wanted.key, programs, settings, limits)
        case AgeKey():
            given = _give_age(stack, wanted.key, settings)
        case _:
            given = await _give_cloud(stack, wanted, settings)
    socket = given.home / "k"
    environment = {**given.environment, "HOME": str(given.home), "XDG_CONFIG_HOME": str(given.home)}
    confinement = Confinement(
        network=given.network,
        judged_connects=given.judge is not None,
        read_execute=(programs.sops, *LOADERS, *given.read_execute),
        read=(*LIBRARIES, *given.read),
        write=(given.home,),
    )
    command = Command(
        [str(programs.sops), "keyservice", "--network", "unix", "--address", str(socket)],
        env=environment,
        cwd=given.home,
        sandbox=Sandbox(confinement, programs.measures),
    )
    process = await stack.enter_async_context(running(command, limits=limits, missing="SopsMissing"))
    return Started(await _connect(socket, process), process, given.until, given.names, given.expires_at, given.judge)


async def _give_pgp(
    stack: contextlib.AsyncExitStack,
    key: PgpKey,
    programs: HolderPrograms,
    settings: KrapaoSettings,
    limits: Limits,
) -> _Given:
    if programs.gpg is None:
        raise JiemiError("GpgMissing", "Krapao finds no gpg program, which a pgp key needs")
    keyring = await stack.enter_async_context(
        open_keyring(
            key,
            gpg=programs.gpg,
            runtime_dir=settings.runtime_dir,
            limits=limits,
            measures=programs.measures,
        )
    )
    environment = {**EMPTY_ENVIRONMENT, **NO_NETWORK_ENVIRONMENT, **keyring.environment}
    return _Given(
        home=Path(keyring.environment["GNUPGHOME"]),
        environment={**environment, "SOPS_GPG_EXEC": str(programs.gpg)},
        read_execute=(programs.gpg, *GPG_FILES),
        read=GPG_FILES,
        names=tuple(f"pgp {each}" for each in keyring.fingerprints),
        expires_at=keyring.expires_at,
    )


def _give_age(stack: contextlib.AsyncExitStack, key: AgeKey, settings: KrapaoSettings) -> _Given:
    plugins = settings.age_plugins_path
    home = stack.enter_context(private_folder(settings.runtime_dir))
    identities = read_age_key(key, plugins=bool(plugins))
    environment = {**EMPTY_ENVIRONMENT, **NO_NETWORK_ENVIRONMENT, **identities.environment(home)}
    if not plugins:
        return _Given(home=home, environment=environment, names=identities.recipients)
    return _Given(
        home=home,
        environment={**environment, "PATH": plugins},
        read_execute=tuple(map(Path, plugins.split(":"))),
        names=identities.recipients,
    )


async def _give_cloud(stack: contextlib.AsyncExitStack, wanted: HolderKey, settings: KrapaoSettings) -> _Given:
    key, operator = wanted.key, settings.operator
    assert not isinstance(key, AgeKey | PgpKey)  # noqa: S101 - narrows the type
    token, until = "", math.inf
    if isinstance(key, VaultKey):
        found = await vault_token(key, wanted.vault_address, operator, permit=_permit(key, wanted, settings))
        token = found.token.reveal()
        if found.lease_seconds is not None:
            until = trio.current_time() + max(1.0, found.lease_seconds - _LEASE_MARGIN_SECONDS)
    made = plan(key, operator, vault_address=wanted.vault_address, vault_token=token)
    home = stack.enter_context(private_folder(settings.runtime_dir))
    environment = dict(made.environment)
    for number, (variable, text) in enumerate(made.files.items()):
        require_memory(home)
        path = home / f"file-{number}.pem"
        write_file(path, text.reveal())
        environment[variable] = str(path)
    authorities = (Path(environment["SSL_CERT_FILE"]),) if "SSL_CERT_FILE" in environment else ()
    return _Given(
        home=home,
        environment=environment,
        read=(*NETWORK_FILES, *map(Path, made.read), *authorities),
        network=True,
        until=until,
        names=(given_name(key),),
        judge=await _judge(wanted, settings),
    )


async def _judge(wanted: HolderKey, settings: KrapaoSettings) -> ConnectJudge | None:
    """Who says where its holder may connect to; None: it may anywhere, because it goes only to servers that the
    operator or the cloud names, or uses an identity of the operator's, for which it may need the metadata service."""
    key = wanted.key
    if isinstance(key, AgeKey | PgpKey | HuaweiKey) or key.ambient:
        return None
    if isinstance(key, VaultKey) and _is_operators(wanted, settings):
        return None
    return ConnectJudge(settings.addresses, await granted_destinations(settings.operator.network))


def _is_operators(wanted: HolderKey, settings: KrapaoSettings) -> bool:
    operators = (*settings.vault_addresses, settings.own_vault_address)
    return wanted.vault_address in {normal_address(each) for each in operators if each is not None}


def _permit(key: VaultKey, wanted: HolderKey, settings: KrapaoSettings) -> Permit | None:
    """For a login, where Krapao itself connects; the operator's own servers may be anywhere."""
    if _is_operators(wanted, settings):
        return None
    field = "spec.provider.vault.address" if key.address is not None else "the file's Vault address"
    return permit_by(settings.addresses, field)


@attrs.frozen(kw_only=True)
class _Given:
    """What a holder is started with.

    Attributes:
        until: when it must end (trio's clock).
        judge: of its connections; None: they are not judged.
    """

    home: Path
    environment: Mapping[str, str] = attrs.field(repr=False)
    read_execute: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    network: bool = False
    until: float = math.inf
    names: tuple[str, ...] = ()
    expires_at: int | None = None
    judge: ConnectJudge | None = None


@attrs.frozen
class Started:
    """A holder that runs and is connected.

    Attributes:
        until: when it must end (trio's clock).
        names: public names of the keys that it holds, for messages.
        expires_at: when the first of these keys expires (seconds since the epoch), or None.
        judge: of its process's connections; None: they are not judged.
    """

    client: GrpcClient
    process: Program
    until: float
    names: tuple[str, ...]
    expires_at: int | None
    judge: ConnectJudge | None = None


async def _connect(socket: Path, process: Program) -> GrpcClient:
    """Connect to a holder as soon as it listens, and remove its socket's path. Has no deadline but the caller's."""
    while True:
        if process.returncode is not None:
            raise JiemiError("KeyHolderFailed", f"sops keyservice ended at its start, with status {process.returncode}")
        with contextlib.suppress(OSError):
            stream = await trio.open_unix_socket(socket)
            socket.unlink()  # noqa: ASYNC240 - in memory
            return GrpcClient(stream)
        await trio.sleep(_CONNECT_POLL_SECONDS)  # nothing tells of it
