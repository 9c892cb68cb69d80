"""What is fuzzed of what hosts, proxies and repositories say before a file is looked at, and what users write of them.

In most the first byte says what the rest is.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import attrs
import structlog.testing
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dulwich.client import GitClient
from dulwich.objects import ObjectID
from dulwich.protocol import Protocol
from fuzz.target import Target

from jiemi.concurrency.calls import Interrupter
from jiemi.core.addresses import is_plain_host
from jiemi.core.errors import JiemiError
from jiemi.core.reasons import REASONS
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import Location, Scheme, parse_url
from jiemi.krapao.git import known_hosts, submodules
from jiemi.krapao.git.github_api import Answer, grant_of, installation_of, refusal, wait_seconds
from jiemi.krapao.git.github_identity import App, read_app, signed_token
from jiemi.krapao.git.host_failures import translating
from jiemi.krapao.git.listing import Lister
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.port import Ref
from jiemi.krapao.git.tcp_transport import TcpClient
from jiemi.krapao.network.proxy import read_proxy
from jiemi.krapao.network.tunnel import TunnelError, speak_http, speak_socks
from jiemi.miwen.reconcile.whole_secret import credentials_of, paths_of
from jiemi.rpc.contract import is_revision
from jiemi.rpc.source import GitCredentials, TagRange

CANARY = "canary-3f9b1c"

# What a host lists, and what it sends; over git://, with and without a shallow one, in each version of the protocol

_HOST = parse_url("git://git.example/r.git")
_MAX_LISTED = 200_000
_NOBODY = GitCredentials()


class _Heard(TcpClient):
    """A client whose host has said everything beforehand."""

    said: bytes

    def _connect(
        self, cmd: bytes, path: str | bytes, protocol_version: int | None = None
    ) -> tuple[Protocol, Callable[[], bool], Any]:
        stream, meter = BytesIO(self.said), self._meter

        def read(size: int) -> bytes:
            data = stream.read(size)
            meter.arrived(len(data))
            return meter.look_at_packets(data)

        self.protocol_version = 2
        return Protocol(read, len), lambda: False, None


@attrs.frozen
class _Host:
    """What `Lister` needs of a host."""

    said: bytes
    location: Location = _HOST

    @contextlib.contextmanager
    def client(self, meter: Meter) -> Iterator[tuple[GitClient, bytes]]:
        client = _Heard("git.example", thin_packs=True, quiet=True)
        client.said, client._meter, client._location = self.said, meter, self.location
        with translating(self.location, 1, meter, _NOBODY):
            yield client, b"/r.git"


class _Nothing:
    """No revision is here."""

    shallow: frozenset[ObjectID] = frozenset()

    def __next__(self) -> None:
        return None

    def ack(self, sha: ObjectID, /) -> None:
        pass

    def nak(self) -> None:
        pass


def _lister(said: bytes) -> Lister:
    return Lister(_Host(said))  # type: ignore[arg-type]  # it has what a lister uses


_REFS = (Ref(), Ref(branch="main"), Ref(tag="v1"), Ref(name="refs/pull/1/head"), Ref(tags=TagRange("*")))


def _check_packets(data: bytes) -> str:
    with structlog.testing.capture_logs():  # the operator is told what answers in place of a git server
        return _said(data)


def _said(data: bytes) -> str:
    if not data:
        return "nothing"
    kind, said = data[0] % 8, data[1:]
    meter = Meter(Interrupter(), _MAX_LISTED, "a listing")
    try:
        if kind < len(_REFS):
            found = _lister(said).list_ref(_REFS[kind], meter)
            assert is_revision(found.revision)
            assert is_revision(found.target)
            return f"listed {kind} {found.revision == found.target} {(found.ref or '')[:12]!r}"
        received = bytearray()

        def write(piece: bytes) -> int:
            received.extend(piece)
            return len(piece)

        with _Host(said).client(meter) as (client, path):
            client.fetch_pack(
                path,
                lambda refs, depth=None: [ObjectID(b"1" * 40)],
                _Nothing(),
                write,
                depth=None if kind == 7 else 1,
                ref_prefix=[b"HEAD"],
            )
        assert len(received) <= len(said)
        return f"fetched {kind} {len(received).bit_length()}"
    except JiemiError as error:
        failure = error.failure
        assert failure.reason in REASONS
        assert failure.reason not in ("InternalError", "StorageFailed"), error
        assert failure.text.isprintable()
        assert len(failure.text) < 1_000
        words = "".join(char for char in failure.message if char.isalpha() or char in " (")
        return f"{kind} {failure.reason} {words[-70:]}"


def _pkt(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


_SHA, _OTHER = b"1" * 40, b"2" * 40
_V2 = b"".join(map(_pkt, (b"version 2\n", b"agent=git/2\n", b"ls-refs=unborn\n", b"fetch=shallow filter\n"))) + b"0000"
_V2_BARE = b"".join(map(_pkt, (b"version 2\n", b"ls-refs\n", b"fetch\n"))) + b"0000"
_CAPABILITIES = b"multi_ack_detailed side-band-64k thin-pack ofs-delta shallow no-progress symref=HEAD:refs/heads/main"
_V0 = _pkt(_SHA + b" HEAD\0" + _CAPABILITIES + b"\n") + _pkt(_SHA + b" refs/heads/main\n")
_V0_BARE = _pkt(_SHA + b" HEAD\0multi_ack side-band\n") + _pkt(_SHA + b" refs/heads/main\n")
_LISTED = (
    _pkt(_SHA + b" HEAD symref-target:refs/heads/main\n")
    + _pkt(_SHA + b" refs/heads/main\n")
    + _pkt(_SHA + b" refs/tags/v1 peeled:" + _OTHER + b"\n")
    + _pkt(_SHA + b" refs/pull/1/head\n")
    + b"0000"
)
_PACK = b"PACK\0\0\0\2\0\0\0\0" + b"x" * 20
_SENT = (
    _pkt(b"shallow-info\n") + _pkt(b"shallow " + _SHA) + b"0001" + _pkt(b"packfile\n") + _pkt(b"\1" + _PACK) + b"0000"
)
_V0_SENT = _pkt(b"shallow " + _SHA) + b"0000" + _pkt(b"NAK\n") + _pkt(b"\1" + _PACK) + b"0000"

PACKETS = Target(
    _check_packets,
    (
        *(bytes([kind]) + _V2 + _LISTED for kind in range(5)),
        *(
            bytes([kind]) + _V0 + _pkt(_SHA + b" refs/tags/v1\n") + _pkt(_OTHER + b" refs/tags/v1^{}\n") + b"0000"
            for kind in range(5)
        ),
        b"\1" + _V0_BARE + b"0000",
        b"\5" + _V2 + _LISTED + _SENT,
        b"\5" + _V2_BARE + _LISTED + _SENT,
        b"\5" + _V0 + b"0000" + _V0_SENT,
        b"\7" + _V0_BARE + b"0000" + _pkt(b"NAK\n") + _pkt(b"\1" + _PACK) + b"0000",
        b"\5" + _V2 + _LISTED + _pkt(b"packfile\n") + _pkt(b"\2progress\r") + _pkt(b"\3fatal \x1b[31m") + b"0000",
        b"\1" + _pkt(b"ERR access denied to " + CANARY.encode()),
        b"\1" + _pkt(b"version 1\n") + _V0 + b"0000",
        b"\1" + _V2 + _pkt(b"unborn HEAD symref-target:refs/heads/main\n") + b"0000",
        b"\1" + _V0 + _pkt(b"shallow " + _OTHER) + b"0000",
    ),
    (
        b"0000",
        b"0001",
        b"0002",
        b"0003",
        b"0004",
        b"ffff",
        b"\0",
        b"\n",
        _pkt(b"NAK\n"),
        _pkt(b"ACK " + _SHA + b" ready\n"),
        _pkt(b"acknowledgments\n"),
        _pkt(b"wanted-refs\n"),
        _pkt(b"packfile\n"),
        _pkt(b"shallow " + _OTHER),
        _pkt(b"unshallow " + _OTHER),
        _pkt(_SHA + b" refs/heads/\xff\n"),
        _pkt(b"object-format=sha256\n"),
        b"peeled:",
        b"symref-target:",
        b"symref=HEAD:",
        b"^{}",
        b"ERR ",
    ),
)

# githubApp: what the API answers, and the key


@functools.cache
def _keys() -> dict[str, str]:
    def pem(key: Any, form: PrivateFormat) -> str:
        return str(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())

    key = rsa.generate_private_key(65537, 2048)
    return {
        "pkcs8": pem(key, PrivateFormat.PKCS8),
        "pkcs1": pem(key, PrivateFormat.TraditionalOpenSSL),
        "short": pem(rsa.generate_private_key(65537, 1024), PrivateFormat.PKCS8),  # noqa: S505 - refused
        "curve": pem(ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8),
    }


@functools.cache
def _app() -> App:
    return read_app(parse_url("https://github.com/acme/deploy"), _of_app(_keys()["pkcs8"]))


def _of_app(key: str, **more: str) -> GitCredentials:
    values = {"github_app_id": "1", "github_app_private_key": key, **more}
    return GitCredentials(**{name: SensitiveText(value) for name, value in values.items()})


def _check_github(data: bytes) -> str:
    if not data:
        return "nothing"
    kind, rest = data[0] % 5, data[1:]
    try:
        return _github_key(rest) if kind == 3 else _github_fields(rest) if kind == 4 else _github_answer(data[0], rest)
    except JiemiError as error:
        failure = error.failure
        assert failure.reason in ("HostUnreachable", "RepositoryAccessDenied", "InvalidSpec", "RepositoryNotFound")
        assert failure.text.isprintable()
        assert CANARY not in failure.text
        return f"{kind} {failure.reason} {failure.message[:70]}"


def _github_key(data: bytes) -> str:
    app = read_app(parse_url("https://github.com/acme/deploy"), _of_app(data.decode("utf-8", "replace")))
    assert signed_token(app, 1_700_000_000).reveal().count(".") == 2
    return f"key {app.key.key_size}"


_APP_FIELDS = (
    "github_app_id",
    "github_app_base_url",
    "github_app_installation_id",
    "github_app_installation_owner",
)


def _github_fields(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").split("\n")
    given = {name: value for name, value in zip(_APP_FIELDS, lines, strict=False) if value}
    app = read_app(parse_url("https://ghe.example/acme/deploy"), _of_app(_keys()["pkcs8"], **given))
    assert app.api.startswith("https://")
    assert app.host in ("ghe.example", "api.ghe.example")
    return f"app {app.installation is None} {app.installation_owner is None} {app.host}"


def _github_answer(kind: int, data: bytes) -> str:
    head, _, body = data.partition(b"\n\n")
    status, *lines = head.decode("latin-1").split("\n")
    headers = {name.strip().lower(): value for name, _, value in (each.partition(":") for each in lines)}
    number = int(status[:6]) % 1_000 if status.isascii() and status.isdecimal() else 200
    answer = Answer(number, headers, body, 1_700_000_000.0)
    wait = wait_seconds(answer)
    if wait is not None:
        assert 1 <= wait <= 3_600
        return f"wait {wait == 60} {wait == 3_600} {wait == 1}"
    if kind % 5 == 0:
        assert installation_of(answer, _app()).isdecimal()
        return f"installation {answer.server_time is None}"
    if kind % 5 == 1:
        grant = grant_of(answer, _app())
        assert 60 <= grant.lasts_seconds <= 3_600
        assert "\n" not in grant.token.reveal()
        return f"grant {grant.lasts_seconds == 60} {grant.lasts_seconds == 3_600} {answer.server_time is None}"
    raise refusal(answer, _app(), of_token=bool(kind & 8))


_DATE = b"Date: Mon, 01 Jan 2024 00:00:00 GMT"
GITHUB = Target(
    _check_github,
    (
        b"\x00200\n" + _DATE + b'\n\n{"id": 12}',
        b'\x00200\n\n{"id": true}',
        b"\x01201\n" + _DATE + b'\n\n{"token": "ghs_' + CANARY.encode() + b'", "expires_at": "2024-01-01T01:00:00Z"}',
        b'\x01201\n\n{"token": "ghs_x", "expires_at": "9999-12-31T23:59:59+00:00"}',
        b'\x01201\n\n{"token": "a\\r\\nX: y", "expires_at": "0001-01-01T00:00:00+14:00"}',
        b'\x02401\n\n{"message": "A JSON web token could not be decoded"}',
        b"\x02403\nRetry-After: 60\n\n",
        b"\x02403\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1704067260\n" + _DATE + b"\n\n",
        b'\x02403\n\n{"message": "This installation has been suspended"}',
        b"\x0a404\n\n",
        b'\x0a422\n\n{"message": "The permissions requested are not granted to this installation."}',
        b"\x02422\n\nx",
        b"\x02500\n\n<html>",
        *(b"\x03" + pem.encode() for pem in _keys().values()),
        b"\x03-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        b"\x041\nhttps://ghe.example/api/v3\n12\nacme",
        b"\x04Iv1.x\nhttps://api.ghe.example\n\nacme",
        b"\x041\nhttps://evil@ghe.example/api",
        b"\x041\nhttps://[::1]:1/",
    ),
    (
        b"Date: ",
        b"Retry-After: ",
        b"X-RateLimit-Reset: ",
        b"\n\n",
        b'"id": ',
        b'"token": ',
        b'"expires_at": "',
        b"99999999999999999999",
        b"-1",
        b"1e999",
        b"NaN",
        b"[" * 50,
        b"+24:00",
        b"-0000",
        b"GMT",
        b"suspended",
        b"rate limit",
        b"https://ghe.example",
        b"@",
        b"\\",
        b"%00",
        b"-----BEGIN PRIVATE KEY-----",
        b"-----END PRIVATE KEY-----",
        b"AAAA",
    ),
)

# Proxies: their URLs, and what they answer


def _check_proxy(data: bytes) -> str:
    if not data:
        return "nothing"
    kind, rest = data[0] % 4, data[1:]
    if kind < 2:
        try:
            proxy = read_proxy(
                rest.decode("utf-8", "replace"),
                credentials=kind == 0,
                direct=("a.example",),
                is_operators=bool(data[0] & 4),
            )
        except ValueError as error:
            assert CANARY not in str(error)
            return f"no proxy: {error}"
        assert is_plain_host(proxy.host)
        assert 0 < proxy.port < 65_536
        assert CANARY not in repr(proxy) or CANARY in proxy.host
        assert not proxy.is_for("a.example")
        has_login = proxy.authorization is not None
        if has_login:
            assert kind == 0
            assert proxy.authorization is not None
            assert proxy.authorization.reveal().isprintable()
        return f"proxy {proxy.scheme} {has_login} {':' in proxy.host}"
    login = (SensitiveText("me"), SensitiveText(CANARY)) if data[0] & 8 else (None, None)
    proxy = attrs.evolve(read_proxy("http://h:1", credentials=False), username=login[0], password=login[1])
    here, there = socket.socketpair()
    with here, there:
        there.sendall(rest)
        there.shutdown(socket.SHUT_WR)
        try:
            (speak_http if kind == 2 else speak_socks)(here, proxy, "git.example", 22)
        except TunnelError as error:
            assert CANARY not in str(error)
            return f"{kind} {error}"
        left = len(here.recv(10_000))
        assert left < len(rest)
        return f"tunnel {kind} {left > 0}"


PROXY = Target(
    _check_proxy,
    (
        b"\x00http://me:" + CANARY.encode() + b"@proxy.example:3128",
        b"\x00socks5://[2001:db8::1]:1080/",
        b"\x05https://proxy.example:443",
        b"\x01http://me:" + CANARY.encode() + b"@h:1",
        b"\x01http://127.1:1",
        b"\x01http://h:0",
        b"\x01socks5://proxy.example",
        b"\x02HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nSSH-2.0-x",
        b"\x02HTTP/1.0 200 OK\n\n",
        b"\x0aHTTP/1.1 407 Login\r\n\r\n",
        b"\x02HTTP/1.1 502 Bad\r\n\r\n",
        b"\x02SSH-2.0-x\r\n\r\n",
        b"\x03\x05\x00\x05\x00\x00\x01" + bytes(6) + b"SSH-2.0-x",
        b"\x0b\x05\x02\x01\x00\x05\x00\x00\x03\x04host\0\0",
        b"\x0b\x05\x02\x01\x01",
        b"\x03\x05\x00\x05\x02\x00\x01" + bytes(6),
        b"\x03\x05\xff",
        b"\x03\x04\x00",
        b"\x03\x05\x00\x05\x00\x00\x04" + bytes(18),
    ),
    (
        b"http://",
        b"https://",
        b"socks5://",
        b"@",
        b":",
        b"%40",
        b"%0a",
        b"%ff",
        b"[::1]",
        b"[fe80::1%25x]",
        b"0x7f.1",
        b"\r\n\r\n",
        b"\n\n",
        b"HTTP/1.1 200",
        b"\x05\x00",
        b"\x05\x02\x01\x00",
        b"\x05\x00\x00\x01" + bytes(6),
        b"\xff",
    ),
    max_bytes=1_000,
)

# .gitmodules, and where the URLs in it lead

_PARENTS = tuple(
    map(parse_url, ("https://git.example/team/app.git", "git@git.example:app.git", "ssh://git.example/~/a/b"))
)


def _check_submodules(data: bytes) -> str:
    path = "lib/sub"
    try:
        url = submodules.url_of(data, path)
        found = [submodules.locate(url, parent, allow_file=False) for parent in _PARENTS]
    except JiemiError as error:
        failure = error.failure
        assert failure.reason == "SubmoduleInvalid", error
        assert failure.text.isprintable()
        assert CANARY not in failure.text
        return failure.message[-80:]
    kinds = set()
    for location, parent in zip(found, _PARENTS, strict=True):
        assert location.scheme is not Scheme.FILE
        assert location.host
        assert not location.host.startswith("-")
        assert not location.path.startswith("-")
        assert ".." not in location.path.split("/")
        assert not (location.user or "x").startswith("-")
        kinds.add((location.scheme.value, submodules.same_host(location, parent)))
    return f"{sorted(kinds)} {url.startswith('.')}"


def _section(url: bytes, path: bytes = b"lib/sub", name: bytes = b"sub") -> bytes:
    return b'[submodule "' + name + b'"]\n\tpath = ' + path + b"\n\turl = " + url + b"\n"


GITMODULES = Target(
    _check_submodules,
    (
        _section(b"https://git.example/other.git"),
        _section(b"../other.git"),
        _section(b"./../../x/y"),
        _section(b"git@other.example:x.git"),
        _section(b"ssh://me@other.example:22/x"),
        _section(b"https://evil:" + CANARY.encode() + b"@h/x"),
        _section(b"ext::sh -c x"),
        _section(b"--upload-pack=x"),
        _section(b"../../../../x"),
        _section(b"a") + _section(b"b"),
        _section(b"../a", b'"lib/sub"'),
        b"[include]\n\tpath = /etc/passwd\n" + _section(b"../a"),
        b'[submodule "sub]\n',
        b"[submodule.sub]\npath=lib/sub\nurl=../a\n",
        b"",
        b"\xef\xbb\xbf" + _section(b"../a"),
        _section(b'"../a\\n\\t\\"" # more'),
        _section(b"../a \\\n  b"),
    ),
    (
        b"[",
        b"]",
        b'"',
        b"\\",
        b"\n",
        b"=",
        b"#",
        b";",
        b"..",
        b"/",
        b":",
        b"@",
        b"://",
        b"%2e",
        b"url = ",
        b"path = lib/sub",
        b'[submodule "',
        b"\\\n",
        b"\xff",
        b"\0",
        b"file://",
        b"http://127.1/x",
    ),
)

# known_hosts, and a Secret of Flux's form

_LINE = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
_HASHED = b"|1|" + base64.b64encode(b"s" * 20) + b"|" + base64.b64encode(b"h" * 20)


def _check_known_hosts(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    found = [
        known_hosts.lookup(text, host, port) for host, port in (("git.example", 22), ("git.example", 2222), ("::1", 22))
    ]
    readable = known_hosts.may_be_known_hosts(text)
    for keys in found:
        assert readable or not (keys.accepted or keys.revoked)
        for _, key in keys.accepted:
            assert known_hosts.fingerprint(key).startswith("SHA256:")
    counts = [(min(len(keys.accepted), 3), min(len(keys.revoked), 2), min(len(keys.types), 3)) for keys in found]
    return f"{counts} {readable}"


KNOWN_HOSTS = Target(
    _check_known_hosts,
    (
        b"git.example " + _LINE,
        b"[git.example]:2222,*.example " + _LINE + b" comment\ngit.example ssh-rsa AAAA\n",
        b"*,!git.example " + _LINE,
        b"@revoked git.example " + _LINE + b"\n* " + _LINE,
        b"@cert-authority * " + _LINE,
        b"# nothing\n\n",
        _HASHED + b" " + _LINE,
        b"?it.e*e " + _LINE,
        b"*a*b*c*d*e*f*g*h*i " + _LINE,
        b"git.example ssh-ed25519 no-base64!",
        b"::1,[::1]:22 " + _LINE,
        b"@revoked",
    ),
    (
        b" ",
        b"\n",
        b",",
        b"!",
        b"*",
        b"?",
        b"|1|",
        b"|",
        b"@revoked ",
        b"@cert-authority ",
        b"[",
        b"]:2222",
        b"#",
        b"\x0b",
        b"\xe2\x80\xa8",
        b"AAAA",
        b"=",
        b"git.example",
        _LINE,
    ),
)

_SCHEMES = (Scheme.HTTP, Scheme.HTTPS, Scheme.SSH, Scheme.GIT, Scheme.FILE)


def _check_secret(data: bytes) -> str:
    """The keys of a Secret, a line for each with a value behind it."""
    if not data:
        return "nothing"
    scheme = _SCHEMES[data[0] % len(_SCHEMES)]
    pairs = [line.partition(":") for line in data[1:].decode("utf-8", "replace").split("\n") if line]
    whole = {name: value for name, _, value in pairs}
    values = {name: SensitiveText(CANARY + value) for name, value in whole.items() if name in paths_of(scheme)}
    try:
        found = credentials_of(values, scheme, where="Secret s", keys=tuple(whole))
    except JiemiError as error:
        assert error.failure.reason in ("SecretKeyNotFound", "InvalidSpec"), error
        assert CANARY not in error.failure.text
        return f"{scheme.value} {error.failure.message[:90]}"
    given = {name for name, value in attrs.asdict(found, recurse=False).items() if value is not None}
    assert given
    for one, other in (("username", "token"), ("client_certificate", "client_key")):
        assert (one in given) == (other in given)
    assert not {"bearer", "token"} <= given
    assert ("github_app_id" in given) == ("github_app_private_key" in given)
    return f"{scheme.value} {sorted(given)}"


_FLUX_KEYS = tuple(dict.fromkeys(key.encode() for scheme in _SCHEMES for key in paths_of(scheme)))
SECRETS = Target(
    _check_secret,
    (
        b"\1username:u\npassword:p",
        b"\1bearerToken:x\nca.crt:y",
        b"\1bearerToken:x\nusername:u\npassword:p",
        b"\1tls.crt:c\ntls.key:k\ncaFile:a",
        b"\1ca.crt:a\ncaFile:b",
        b"\1githubAppID:1\ngithubAppPrivateKey:k\ngithubAppInstallationID:2",
        b"\2identity:k\nknown_hosts:h\npassword:p",
        b"\2known_hosts:h",
        b"\2identity.pub:k",
        b"\3username:u\npassword:p",
        b"\0Username:u\npassword:p",
        b"\1",
    ),
    (*_FLUX_KEYS, b":", b"\n", b"x", b"\xff"),
    max_bytes=600,
)

TARGETS = {
    "packets": PACKETS,
    "github": GITHUB,
    "proxy": PROXY,
    "gitmodules": GITMODULES,
    "known-hosts": KNOWN_HOSTS,
    "secrets": SECRETS,
}
