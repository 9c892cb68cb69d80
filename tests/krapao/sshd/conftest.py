"""Keys that are made once, and a server with one repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import attrs
import pytest
from support.krapao.work_tree import Work
from support.network.openssh import HOME, KeyFile, Sshd, make_home, sshd

from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.source import GitCredentials


@attrs.frozen
class Keys:
    """Keys of the host, and the one that the account lets in."""

    hosts: Mapping[str, KeyFile]
    client: KeyFile

    @property
    def host(self) -> KeyFile:
        return self.hosts["ed25519"]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    kinds = {"ed25519": 0, "ecdsa": 256, "rsa": 2048}
    hosts = {kind: KeyFile.make(folder / f"host-{kind}", kind, bits=bits) for kind, bits in kinds.items()}
    return Keys(hosts, KeyFile.make(folder / "client", "ed25519"))


@attrs.frozen
class Host:
    """A server with the repository `r.git`.

    Attributes:
        credentials: a deploy key that it lets in, and what known_hosts says of it.
    """

    server: Sshd
    credentials: GitCredentials

    @property
    def url(self) -> str:
        return f"ssh://git@{self.server.host}{HOME}/r.git"

    @property
    def bare(self) -> Path:
        return self.server.home / "r.git"

    def known(self, lines: str) -> GitCredentials:
        """The credentials, with other lines of known_hosts."""
        return attrs.evolve(self.credentials, known_hosts=SensitiveText(lines))


Opener = Callable[..., AbstractContextManager[Host]]


@pytest.fixture
def open_host(tmp_path: Path, work: Work, keys: Keys) -> Opener:
    """Starts a server. Takes options of sshd_config, and by name: `authorized`, lines of authorized_keys;
    `host_keys`; `login_shell`."""

    @contextmanager
    def opened(
        options: Mapping[str, str] | None = None,
        *,
        authorized: Sequence[str] | None = None,
        host_keys: Sequence[KeyFile] | None = None,
        login_shell: str = "git-shell",
    ) -> Iterator[Host]:
        folder = tmp_path / "sshd"
        if not folder.exists():
            home = make_home(folder, [keys.client.public] if authorized is None else authorized)
            work.git("init", "--quiet", "--bare", "--initial-branch=main", str(home / "r.git"))
        shown = [keys.host] if host_keys is None else host_keys
        with sshd(folder, shown, options, login_shell=login_shell) as server:
            known = SensitiveText(server.known(*shown))
            yield Host(server, GitCredentials(ssh=SensitiveText(keys.client.private), known_hosts=known))

    return opened


@pytest.fixture
def host(open_host: Opener, threads_before: None) -> Iterator[Host]:
    """A server as most are set up."""
    with open_host() as opened:
        yield opened
