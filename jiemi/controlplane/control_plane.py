"""A real Kubernetes API on loopback: etcd and kube-apiserver are our children and keep their state in one directory.

    DIR/lock         held while a control plane runs there
    DIR/kubeconfig   for the administrator
    DIR/kube-controller-manager.kubeconfig   for the controllers, where they run
    DIR/port         of the API server, taken again at the next start where it is free
    DIR/pki/         certificates and keys (pki.py)
    DIR/encryption.json   the key that encrypts Secrets in etcd
    DIR/etcd/        the data
    DIR/logs/        of this start, and of the one before (.previous)

Both children start at once: kube-apiserver is busy with itself for longer than etcd needs to be up. The ports are bound
here, with SO_REUSEPORT and without listening, before the children bind them too, so that no other process can take
them. Each child has a task that waits for its end; an end that was not asked for ends the context with an error. The
end is always the same: the controllers where they run (`controller_manager`), kube-apiserver, then etcd, gets SIGTERM,
is killed after a grace, and is waited for.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import attrs
import trio

from jiemi.controlplane.arguments import (
    FIRST_SERVICE,
    LOOPBACK,
    SERVICE_NAMES,
    ApiServer,
    api_server_arguments,
    encryption_config,
    etcd_arguments,
    kubeconfig,
)
from jiemi.controlplane.controller_manager import (
    SERVICE_ACCOUNTS,
    ControllerManagerSettings,
    open_controller_manager,
)
from jiemi.controlplane.loopback import Answer, reserve_port, wait_until_ready
from jiemi.controlplane.pki import Pki, ensure_pki
from jiemi.controlplane.private_files import make_private_directory, write_private
from jiemi.controlplane.processes import ControlPlaneError, quote_log, running


@attrs.frozen
class ControlPlaneSettings:
    """How to run an embedded control plane.

    Attributes:
        state_dir: folder for all of its state: a new one (made with mode 0700), an empty one or that of an earlier run.
        etcd, kube_apiserver: the programs (tools.py resolves them).
        port: port of the API server; 0: the port of the last run if it is free, otherwise any.
        audit_log: file for the API server's audit log, or None for none.
        audit_policy: its policy file (audit.k8s.io/v1 Policy); needed where `audit_log` is given.
        node_address: address of this machine by which Pods reach the API server; None: it is reached on loopback only.
        controllers: the cluster's own controllers; None: none run.
        extra_arguments: further arguments of kube-apiserver; they come after ours and so win.
        start_timeout_seconds: limit from the first child's start to the API server's readiness. About 3 are needed on 2
            idle cores.
    """

    state_dir: Path
    etcd: Path
    kube_apiserver: Path
    port: int = 0
    audit_log: Path | None = None
    audit_policy: Path | None = None
    node_address: str | None = None
    controllers: ControllerManagerSettings | None = None
    extra_arguments: tuple[str, ...] = ()
    start_timeout_seconds: float = 60.0

    def __attrs_post_init__(self) -> None:
        if (self.audit_log is None) != (self.audit_policy is None):
            raise ValueError("an audit log needs an audit policy, and the other way round")


@attrs.frozen
class ControlPlane:
    """A control plane that is ready.

    Attributes:
        kubeconfig: file for the administrator, mode 0600.
        server: URL of the API server.
        pki: its certificates and keys.
        pids: of `etcd` and `kube-apiserver`, and of `kube-controller-manager` where it runs.
    """

    kubeconfig: Path
    server: str
    pki: Pki
    pids: Mapping[str, int]

    @property
    def authority(self) -> Path:
        """File with the certificate of the authority that signed the server's."""
        return self.pki.authority.certificate


@contextlib.asynccontextmanager
async def open_control_plane(settings: ControlPlaneSettings) -> AsyncIterator[ControlPlane]:
    """Run a control plane for as long as the context lasts; it is ready when the context is entered.

    To be entered on the thread that runs trio, which must live as long as the context: the children die with it.

    Raises:
        ControlPlaneError: it can't start, or one of its processes ended by itself, then or later.
        Whatever the body raises, as it is.
    """
    state_dir = _absolute(settings.state_dir)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_own(state_dir))
            hosts = (settings.node_address, FIRST_SERVICE, *SERVICE_NAMES) if settings.node_address is not None else ()
            pki = ensure_pki(state_dir / "pki", datetime.datetime.now(datetime.UTC), hosts)
            encryption = _ensure_encryption(state_dir / "encryption.json")
            make_private_directory(state_dir / "logs")
            make_private_directory(state_dir / "etcd")
            port = stack.enter_context(reserve_port(settings.port or _last_port(state_dir)))
            if settings.port not in (0, port):
                raise ControlPlaneError(f"port {settings.port} is in use; choose another, or none")
            etcd_port = stack.enter_context(reserve_port(0))
            peer_port = stack.enter_context(reserve_port(0))
            write_private(state_dir / "port", f"{port}\n".encode())
        except OSError as error:
            raise ControlPlaneError(f"the state directory {state_dir} can't be used: {error}") from error
        api_server = ApiServer(
            port=port,
            etcd_port=etcd_port,
            encryption_config=encryption,
            scratch=state_dir / "pki" / "scratch",
            audit_log=settings.audit_log,
            audit_policy=settings.audit_policy,
            node_address=settings.node_address,
            service_accounts=settings.controllers is not None and settings.controllers.runs(SERVICE_ACCOUNTS),
            extra=settings.extra_arguments,
        )
        commands: dict[str, list[str | Path]] = {
            "etcd": [settings.etcd, *etcd_arguments(state_dir / "etcd", etcd_port, peer_port, pki)],
            "kube-apiserver": [settings.kube_apiserver, *api_server_arguments(api_server, pki)],
        }
        async with running(commands, state_dir / "logs") as pids:
            try:
                with trio.fail_after(settings.start_timeout_seconds):
                    await wait_until_ready(port, "/readyz", pki.authority.certificate, pki.admin, _is_ready)
            except trio.TooSlowError as error:
                raise ControlPlaneError(
                    f"kube-apiserver was not ready within {settings.start_timeout_seconds:g} s;"
                    f" see {state_dir / 'logs'}" + quote_log(state_dir / "logs" / "kube-apiserver.log")
                ) from error
            server = f"https://{LOOPBACK}:{port}"
            config = state_dir / "kubeconfig"
            write_private(config, _kubeconfig(server, pki))
            async with _controllers(settings.controllers, state_dir, server, pki) as more:
                yield ControlPlane(config, server, pki, {**pids, **more})


@contextlib.asynccontextmanager
async def _controllers(
    settings: ControllerManagerSettings | None, state_dir: Path, server: str, pki: Pki
) -> AsyncIterator[Mapping[str, int]]:
    if settings is None:
        yield {}
        return
    async with open_controller_manager(settings, state_dir, server, pki) as pids:
        yield pids


async def run_control_plane(settings: ControlPlaneSettings, *, announce: Callable[[ControlPlane], None]) -> None:
    """Run a control plane until SIGINT, SIGTERM or SIGHUP, then end it and return.

    Args:
        announce: called once, when it is ready.

    Raises:
        ControlPlaneError: as `open_control_plane`.
    """
    failure: ControlPlaneError | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            asked_to_end = trio.CancelScope()

            async def listen() -> None:
                # It goes on listening during the cleanup: a second Ctrl-C must not end us before our children.
                async for _ in signals:
                    asked_to_end.cancel()

            nursery.start_soon(listen)
            with asked_to_end:
                try:
                    async with open_control_plane(settings) as control_plane:
                        announce(control_plane)
                        await trio.sleep_forever()
                except ControlPlaneError as error:
                    failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _is_ready(answer: Answer) -> bool:
    return answer.status == 200


@contextlib.contextmanager
def _own(state_dir: Path) -> Iterator[None]:
    """Make the state directory and hold its lock, which the kernel drops when we die."""
    lock_path = state_dir / "lock"
    if state_dir.is_dir() and not lock_path.exists() and any(state_dir.iterdir()):
        raise ControlPlaneError(f"{state_dir} is not empty and is not a control plane's state directory")
    make_private_directory(state_dir)
    with lock_path.open("a+b") as lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ControlPlaneError(f"another control plane runs on {state_dir}; end it, or choose another") from error
        yield


def _ensure_encryption(path: Path) -> Path:
    # Without this key the data are lost, so it is made once and stays.
    if not path.exists():
        write_private(path, encryption_config(secrets.token_bytes(32)))
    return path


def _last_port(state_dir: Path) -> int:
    try:
        port = int((state_dir / "port").read_text("ascii"))
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65_536 else 0


def _kubeconfig(server: str, pki: Pki) -> bytes:
    pair = pki.admin
    return kubeconfig(
        server, pki.authority.certificate.read_bytes(), pair.certificate.read_bytes(), pair.key.read_bytes()
    )


def _absolute(path: Path) -> Path:
    return path.absolute()
