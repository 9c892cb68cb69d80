"""`jiemi krapao`: build the settings, open the service, serve."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from jiemi.certificates import SERVER_AUTH
from jiemi.cli.errors import CommandError
from jiemi.cli.krapao_flags import KrapaoFlags
from jiemi.cli.log_levels import follow_file, levels_of_flag
from jiemi.cli.logs import configure_logs
from jiemi.cli.metrics import pages_of, watch_loops
from jiemi.cli.programs import GET_SOPS, find_gpg, find_sops
from jiemi.cli.running import forbid_core_dumps, run_until_signalled
from jiemi.cli.traces import exporter_of, running
from jiemi.concurrency.memory import keep_trimmed
from jiemi.core.address_rules import AddressRules, Network, read_network
from jiemi.core.addresses import normal_address
from jiemi.krapao.git.known_hosts import may_be_known_hosts
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.network.proxy import Proxy, may_be_direct, read_proxy
from jiemi.krapao.operator_environment import AMBIENT_PROVIDERS, AmbientBounds, OperatorEnvironment
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.traced import TracedKrapao
from jiemi.krapao.volume_watch import watch_volume
from jiemi.rpc.address import Address, TcpAddress, parse_address
from jiemi.rpc.admission import Admission
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.contract import MEBIBYTE
from jiemi.rpc.server import serve
from jiemi.rpc.session_secret import MAKE_ONE, SessionSecretError, read_secret_file
from jiemi.rpc.sockets import ListenError
from jiemi.rpc.tls import ServerTls, TlsError, TlsFolder
from jiemi.rpc.tls_names import KRAPAO_NAME, PARTS
from jiemi.tracing.spans import Tracer


def run(flags: KrapaoFlags) -> None:
    """Run Krapao until it is signalled.

    Raises:
        CommandError: a flag can't be used.
    """
    log_filter = configure_logs(flags.log_format, levels_of_flag(flags.log_level))
    try:
        address = parse_address(flags.listen)
    except ValueError as error:
        raise CommandError(f"--listen: {error}") from error
    ambient = _ambient(flags.allow_ambient_identity, flags.ambient_keys, flags.ambient_repositories)
    _require_known_peers(address, flags, lends=bool(ambient.keys))
    metrics = KrapaoMetrics()
    admission = Admission(flags.session_secret_file, _server_tls(address, flags), metrics.peer_refused)
    metrics.certificate_ends = partial(_certificate_ends, admission)
    pages = pages_of(flags.metrics_listen, metrics, service="krapao")
    settings = krapao_settings(flags, ambient)
    exporter = exporter_of(flags, metrics, service="krapao")
    tracer = Tracer(exporter.ended, flags.traces_ratio) if exporter is not None else None

    async def main() -> None:
        async with (
            running(exporter),
            open_bridge() as bridge,
            open_service(settings, metrics) as service,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(keep_trimmed)
            if flags.log_level_file is not None:
                nursery.start_soon(follow_file, flags.log_level_file, log_filter)
            nursery.start_soon(watch_loops, metrics.health, bridge)
            nursery.start_soon(watch_volume, settings.state_dir, metrics.health)
            krapao = service if tracer is None else TracedKrapao(service, tracer)
            bound = await nursery.start(partial(serve, krapao, address, bridge=bridge, admission=admission))
            log = structlog.get_logger("jiemi.krapao")
            if settings.sops is None:
                log.warning("sops_missing", why=f"files can't be decrypted; {GET_SOPS}, then start again")
            if isinstance(address, TcpAddress) and admission.tls is None:
                log.warning("plain_tcp", why="whoever can listen on the network reads all credentials and secrets")
                if not admission.compares_secrets:
                    log.warning("no_session_secret", why="anyone who reaches the port is served")
            log.info("serving", address=str(bound))
            metrics.health.ready()

    forbid_core_dumps()
    try:
        run_until_signalled(main, on_signal=metrics.health.stopping, beside=pages)
    except* ListenError as group:
        raise CommandError(f"--listen: {_leaf(group)}") from None
    except* CommandError as group:
        raise _leaf(group) from None


def krapao_settings(flags: KrapaoFlags, ambient: AmbientBounds) -> KrapaoSettings:
    """What the flags and the environment say, as Krapao takes it.

    Args:
        ambient: what the flags say about identities of Krapao's own.

    Raises:
        CommandError: a flag can't be used.
    """
    own_vault = os.environ.get("VAULT_ADDR")
    return KrapaoSettings(
        state_dir=flags.state_dir,
        runtime_dir=_runtime_folder(flags.runtime_dir),
        ssh_known_hosts=_known_hosts(flags.ssh_known_hosts),
        sops=find_sops(flags.sops),
        gpg=flags.gpg if find_gpg(flags.gpg) is not None else None,
        programs_path=os.environ.get("PATH", os.defpath),
        allow_file_urls=flags.allow_file_urls,
        proxy=_proxy(flags),
        ca_bundle=_authorities(flags.ca_bundle),
        addresses=AddressRules(
            allowed=tuple(_network(each, "--allow-address") for each in flags.allow_addresses),
            denied=tuple(_network(each, "--deny-address") for each in flags.deny_addresses),
        ),
        operator=OperatorEnvironment.of(os.environ, ambient),
        vault_addresses=tuple(_vault_address(each, "--allow-vault-address") for each in flags.allow_vault_addresses),
        own_vault_address=_vault_address(own_vault, "VAULT_ADDR") if own_vault else None,
        require_named_vault=flags.require_vault_address,
        age_plugins_path=_folders(flags.age_plugins, "--age-plugins"),
        max_store_bytes=flags.max_store_mebibytes * MEBIBYTE,
        max_tenant_store_bytes=flags.max_tenant_store_mebibytes * MEBIBYTE,
        max_holders=flags.max_holders,
    )


def _known_hosts(path: Path | None) -> str:
    """Raises CommandError: it can't be read, or is no such file."""
    try:
        known_hosts = path.read_text() if path is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--ssh-known-hosts {path} can't be read: {error}") from error
    if not may_be_known_hosts(known_hosts):
        raise CommandError(
            f"--ssh-known-hosts {path}: no line of it is one of a known_hosts file; write HOST TYPE KEY, as "
            "`jiemi known-hosts HOST` prints it"
        )
    return known_hosts


def _runtime_folder(path: Path) -> Path:
    """Raises CommandError: there is no such folder."""
    if not path.is_dir():
        raise CommandError(f"--runtime-dir {path} is no folder that is there; give one that is in memory (tmpfs)")
    return path


def _require_known_peers(address: Address, flags: KrapaoFlags, *, lends: bool) -> None:
    """Refuse to serve everybody, or to be overheard, unless a flag asks for that.

    Raises:
        CommandError: the flags do not go together.
    """
    secret_file = flags.session_secret_file
    if flags.tls_dir is not None and flags.insecure_plain_tcp:
        raise CommandError("--insecure-plain-tcp and --tls-dir exclude each other")
    if flags.insecure_no_session_secret and secret_file is not None:
        raise CommandError("--insecure-no-session-secret and --session-secret-file exclude each other")
    if isinstance(address, TcpAddress) and flags.tls_dir is None:
        if not flags.insecure_plain_tcp:
            raise CommandError(
                f"--listen {address}: credentials and decrypted secrets go over this port, so give --tls-dir, a folder "
                f"with {', '.join(PARTS)} of a certificate for the name {KRAPAO_NAME}, as cert-manager and Miwen make "
                "them. Or listen on a unix socket (--listen unix:/path), which needs none"
            )
        if secret_file is None and lends:
            raise CommandError(
                "--allow-ambient-identity on TCP needs --tls-dir: without it anybody that reaches the port can decrypt "
                "what Krapao's own identity opens. A unix socket (--listen unix:/path) needs none"
            )
        if secret_file is None and not flags.insecure_no_session_secret:
            raise CommandError(
                f"--listen {address}: without TLS anyone who reaches the port can use it (on loopback every "
                f"user of the machine), so give --session-secret-file FILE, and Miwen the same file ({MAKE_ONE}). Or "
                "listen on a unix socket (--listen unix:/path), or serve everyone with --insecure-no-session-secret"
            )
    if secret_file is not None:
        try:
            read_secret_file(secret_file)
        except SessionSecretError as error:
            raise CommandError(f"--session-secret-file: {error}") from error


def _certificate_ends(admission: Admission) -> float | None:
    tls = admission.tls
    return tls.not_after.timestamp() if tls is not None and tls.not_after is not None else None


def _server_tls(address: Address, flags: KrapaoFlags) -> ServerTls | None:
    """Raises CommandError: the folder has no identity that can be used."""
    if flags.tls_dir is None or not isinstance(address, TcpAddress):
        return None
    folder = TlsFolder(flags.tls_dir, SERVER_AUTH)
    try:
        folder.read()
    except TlsError as error:
        raise CommandError(f"--tls-dir: {error}" + (f". {error.remedy}" if error.remedy else "")) from error
    tls = ServerTls(folder, flags.tls_client_name)
    tls.refresh()
    return tls


def _ambient(providers: str, keys: Sequence[str], repositories: Sequence[str]) -> AmbientBounds:
    """The bounds within which Krapao's own identities may be used.

    Raises:
        CommandError: a provider has no such identity, or a bound is missing.
    """
    names = {name.strip() for name in providers.split(",") if name.strip()}
    for name in sorted(names - set(AMBIENT_PROVIDERS)):
        raise CommandError(f"--allow-ambient-identity: {name!r} is none of {', '.join(AMBIENT_PROVIDERS)}")
    found: dict[str, tuple[str, ...]] = {}
    for each in keys:
        provider, equals, pattern = each.partition("=")
        if provider not in names or not equals or not pattern:
            raise CommandError(
                f"--ambient-key {each!r}: write PROVIDER=PATTERN, with a provider of --allow-ambient-identity"
            )
        found[provider] = (*found.get(provider, ()), pattern)
    for name in sorted(names - set(found)):
        raise CommandError(
            f"--allow-ambient-identity {name} needs --ambient-key {name}=PATTERN: the keys that Decryptors may use "
            f"Krapao's own identity for ({name}=** for every key that it opens)"
        )
    if not all(each.strip() for each in repositories):
        raise CommandError(
            "--ambient-repository: an empty pattern takes no repository; give a URL or a pattern of URLs"
        )
    if names and not repositories:
        raise CommandError(
            "--allow-ambient-identity needs --ambient-repository PATTERN: the URLs of the repositories whose files may "
            "be opened with Krapao's own identity (** for all)"
        )
    if repositories and not names:
        raise CommandError("--ambient-repository is of no use without --allow-ambient-identity")
    return AmbientBounds(found, tuple(repositories))


def _vault_address(text: str, name: str) -> str:
    """Raises CommandError for what is no server's address."""
    found = normal_address(text)
    if found is None:
        raise CommandError(f"{name}: this is not the http:// or https:// URL of a server")
    return found


def _proxy(flags: KrapaoFlags) -> Proxy | None:
    """Raises CommandError for what is no proxy, and quotes nothing of it."""
    direct = tuple(each for each in flags.no_proxy.replace(" ", "").split(",") if each)
    for each in direct:
        if not may_be_direct(each):
            raise CommandError(
                f"--no-proxy: {each!r} is no host name, no address and no network; write them as "
                "svc.cluster.local,10.0.0.0/8"
            )
    ways: dict[str, str | Path | None] = {
        "--http-proxy": flags.http_proxy,
        "--http-proxy-file": flags.http_proxy_file,
        "--git-proxy": flags.git_proxy,
        "--git-proxy-file": flags.git_proxy_file,
    }
    given = [(name, way) for name, way in ways.items() if way is not None]
    if len(given) > 1:
        raise CommandError(f"{given[0][0]} and {given[1][0]}: give only one of them")
    if not given:
        if direct:
            raise CommandError("--no-proxy needs --http-proxy, --git-proxy or the file of one")
        return None
    [(name, way)] = given
    try:
        text = way.read_text() if isinstance(way, Path) else str(way)
        found = read_proxy(text, credentials=isinstance(way, Path), direct=direct)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} {way} can't be read: {type(error).__name__}") from error
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from error
    carries_all = name.startswith("--git")
    if carries_all and found.scheme == "https":
        raise CommandError(f"{name}: ssh needs a proxy with http:// or socks5://; --http-proxy takes https:// too")
    return attrs.evolve(found, carries_all=carries_all)


def _authorities(path: Path | None) -> Path | None:
    """Raises CommandError for a file that holds no certificate."""
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"--ca-bundle {path} holds no certificate (PEM) that can be read: {error}") from error
    return path


def _folders(path: str, name: str) -> str:
    """Raises CommandError for what names no folders: a program is looked for in no other place."""
    for each in path.split(":") if path else ():
        if not Path(each).is_absolute() or not Path(each).is_dir():
            raise CommandError(
                f"{name}: {each!r} is no folder that is there; write absolute paths, separated by colons"
            )
    return path


def _network(text: str, name: str) -> Network:
    """Raises CommandError for what is no network."""
    try:
        return read_network(text)
    except ValueError as error:
        raise CommandError(f"{name}: {text!r} is no address and no network such as 10.20.0.0/16: {error}") from error


def _leaf(error: BaseException) -> BaseException:
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
