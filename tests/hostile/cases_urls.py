"""What an author of Decryptors writes as an address, as a ref or as a credential, to reach what only Krapao can reach.

Krapao may connect to nothing on loopback here, as in its shipped form, except the address of the tenant's own host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from hostile.case import Refusal

from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.source import GitCredentials, TagRange

EVERY = ("http", "https", "git", "ssh")


@attrs.frozen(kw_only=True)
class UrlCase(Refusal):
    """A row.

    Attributes:
        url: of the repository. {port} and {port6} are those of servers on loopback that must hear nothing; {good} is
            the tenant's host, and {scheme} each of `schemes`.
        ref: which ref is followed, as `Source` takes it.
        resolves: what every name resolves to; empty for what this machine says.
        location: where {good} leads those who ask for what is below /moved; None where nobody asks.
        credentials: made of the tenant's, with the port of the server on loopback.
    """

    url: str = "{good}/r.git"
    schemes: tuple[str, ...] = ("",)
    ref: Mapping[str, Any] = attrs.field(factory=lambda: {"branch": "main"})
    resolves: tuple[str, ...] = ()
    location: str | None = None
    credentials: Callable[[GitCredentials, int], GitCredentials] = lambda given, _: given


def _url(name: str, tries: str, url: str, gets: str = "InvalidUrl", says: str = "") -> UrlCase:
    return UrlCase(name=f"url-{name}", tries=tries, url=url, gets=gets, says=says)


URLS: Sequence[UrlCase] = (
    _url("ext", "a program (`ext::sh -c …`)", "ext::sh -c touch% ran", says="holds a space"),
    _url("ext-bare", "a program without arguments (`ext::…`)", "ext::ran", says="a dash or a colon"),
    _url("ext-scheme", "a program by a scheme (`ext://…`)", "ext://touch/ran", "SchemeNotAllowed"),
    _url("fd", "a descriptor (`fd::17`)", "fd::17"),
    _url("remote-helper", "another helper of git's (`testgit::…`)", "testgit::/etc"),
    _url("file", "a file URL", "file:///etc", "SchemeNotAllowed", "--allow-file-urls"),
    _url("path", "a path on Krapao's machine", "/etc/passwd"),
    _url("relative", "a relative path", "../../etc/passwd"),
    _url("unix", "a socket on Krapao's machine", "http+unix://%2Frun%2Fx.sock/r", "SchemeNotAllowed"),
    _url("option", "an option of git's", "--upload-pack=touch/ran"),
    _url("option-path", "an option in place of the path", "{host}:--upload-pack=ran", says="a dash"),
    _url("ssh-option", "an option of ssh's as host", "ssh://-oProxyCommand=touch/ran"),
    _url("ssh-option-short", "the same in ssh's short form", "-oProxyCommand=touch:ran"),
    _url("ssh-option-user", "the same as a user", "ssh://-oProxyCommand=x@h/x", says="no user name"),
    _url("ssh-option-coded", "the same, percent-encoded", "ssh://%2DoProxyCommand=x@h/x", says="no user name"),
    _url("password", "a password", "https://evil:pass@127.0.0.1/x", says="holds a user name or password"),
    _url("confused", "a host that only some programs take for the host", "http://good.example\\@127.0.0.1:{port}/r"),
    _url("confused-hash", "the same by a fragment", "http://good.example#@127.0.0.1:{port}/r", says="a fragment"),
    _url("line", "a second line of the protocol in the path", "git://127.0.0.1:{port}/r%0d%0ahost=x", says="control"),
    _url("nul", "a NUL in the path, behind which git:// takes arguments", "git://h/r%00host=x", says="control"),
    _url("escape", "an escape sequence for terminals", "https://h/\x1b]0;x\x07", says="control character"),
    _url("dots", "a path that leads up", "https://h/team/../../other", says=".. in its path"),
    _url("dots-coded", "the same, percent-encoded", "https://h/team/%2e%2e/other", says=".. in its path"),
    _url("semicolon", "the same as servers in Java read it (`..;`)", "https://h/team/..;/other", says="..;"),
    _url("query", "a query", "https://h/r?service=git-receive-pack", says="a query"),
    _url("long", "a URL of 3,000 characters", "https://h/" + "a" * 3_000, says="longer than"),
    _url("port", "a port that wraps round to another", "http://h:65616/r", says="port"),
    _url("zone", "an IPv6 address with a zone", "http://[fe80::1%25eth0]/r", says="without a zone"),
    _url("letters", "letters that become others as a name is looked up", "http://ⓛocalhost/r", says="beyond ASCII"),
    _url("number", "an address as one number", "http://2130706433:{port}/r", says="a number as host"),
    _url("hexadecimal", "an address in hexadecimal", "http://0x7f.1:{port}/r", says="a number as host"),
    _url("octal", "an address in octal", "http://0177.0.0.1:{port}/r", says="a number as host"),
    _url("short", "an address of two parts", "http://127.1:{port}/r", says="a number as host"),
)


def _loopback(name: str, host: str, port: str = "{port}") -> UrlCase:
    return UrlCase(
        name=f"loopback-{name}",
        tries=f"Krapao's own machine, as `{host}`",
        url=f"{{scheme}}://{host}:{port}/r",
        schemes=EVERY,
        gets="AddressNotAllowed",
        says="--allow-address",
    )


def _forbidden(name: str, tries: str, host: str) -> UrlCase:
    return UrlCase(
        name=f"address-{name}",
        tries=tries,
        url=f"{{scheme}}://{host}/latest/meta-data",
        schemes=EVERY,
        gets="AddressNotAllowed",
        says="spec.source.repository.url",
    )


def _name(name: str, tries: str, *addresses: str) -> UrlCase:
    return UrlCase(
        name=f"name-{name}",
        tries=f"a name of the author's that resolves to {tries}",
        url="{scheme}://git.example:{port}/r",
        schemes=EVERY,
        resolves=addresses,
        gets="AddressNotAllowed",
    )


ADDRESSES: Sequence[UrlCase] = (
    _loopback("v4", "127.0.0.1"),
    _loopback("resolver", "127.0.0.53"),
    _loopback("name", "localhost"),
    _loopback("name-dot", "localhost."),
    _loopback("name-capitals", "LOCALHOST"),
    _loopback("unspecified", "0.0.0.0"),  # noqa: S104 - asked for, not listened on
    _loopback("v6", "[::1]", "{port6}"),
    _loopback("v6-unspecified", "[::]", "{port6}"),
    _loopback("mapped", "[::ffff:127.0.0.1]"),
    _loopback("mapped-hexadecimal", "[::ffff:7f00:1]"),
    _loopback("compatible", "[::127.0.0.1]"),
    _loopback("v6-long", "[0:0:0:0:0:0:0:1]", "{port6}"),
    _loopback("nat64", "[64:ff9b::7f00:1]"),
    _loopback("6to4", "[2002:7f00:1::]"),
    _forbidden("metadata", "the metadata service of AWS, Azure and GCP", "169.254.169.254"),
    _forbidden("ecs", "that of AWS ECS", "169.254.170.2"),
    _forbidden("metadata-v6", "that of AWS by IPv6", "[fd00:ec2::254]"),
    _forbidden("metadata-mapped", "the same as `[::ffff:a9fe:a9fe]`", "[::ffff:a9fe:a9fe]"),
    _forbidden("alibaba", "that of Alibaba Cloud", "100.100.100.200"),
    _forbidden("wire-server", "Azure's wire server", "168.63.129.16"),
    _forbidden("link-local", "a link-local address", "[fe80::1]"),
    _forbidden("multicast", "a multicast address", "224.0.0.1"),
    _forbidden("broadcast", "the broadcast address", "255.255.255.255"),
    _name("loopback", "127.0.0.1", "127.0.0.1"),
    _name("second", "a good address and 127.0.0.1", "192.0.2.1", "127.0.0.1"),
    _name("metadata", "the metadata service", "169.254.169.254"),
    _name("mapped", "`::ffff:127.0.0.1`", "::ffff:127.0.0.1"),
    _name("zone", "a link-local address with a zone", "fe80::1%eth0"),
)


def _redirect(name: str, tries: str, location: str, gets: str = "InvalidUrl") -> UrlCase:
    return UrlCase(
        name=f"redirect-{name}",
        tries=f"a host that is allowed and redirects to {tries}",
        url="{good}/moved/r.git",
        location=location,
        gets=gets,
    )


def _proxied(name: str, tries: str, kind: str, url: str = "http://git.example/r") -> UrlCase:
    return UrlCase(
        name=f"proxy-{name}",
        tries=tries,
        url=url,
        credentials=lambda given, port: attrs.evolve(given, proxy_url=_text(f"{kind}://127.0.0.1:{port}")),
        gets="AddressNotAllowed",
        says="spec.source.repository.proxy",
    )


def _app(name: str, tries: str, base_url: str, gets: str, url: str = "https://ghe.example/acme/deploy") -> UrlCase:
    def credentials(_: GitCredentials, port: int) -> GitCredentials:
        return GitCredentials(
            github_app_id=_text("1"),
            github_app_private_key=_text(APP_KEY),
            github_app_base_url=_text(base_url.format(port=port)),
        )

    return UrlCase(name=f"app-{name}", tries=tries, url=url, credentials=credentials, gets=gets)


def _text(text: str) -> SensitiveText:
    return SensitiveText(text)


def _app_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


APP_KEY = _app_key()

DETOURS: Sequence[UrlCase] = (
    _redirect("loopback", "Krapao's own machine", "http://127.0.0.1:{port}/r/info/refs?service=git-upload-pack"),
    _redirect("tls", "the same over https", "https://127.0.0.1:{port}/r/info/refs?service=git-upload-pack"),
    _redirect("metadata", "the metadata service", "http://169.254.169.254/latest/meta-data"),
    _redirect("file", "a file", "file:///etc/passwd"),
    _redirect("program", "a program", "ext::sh -c touch% ran"),
    _redirect("scheme-less", "a host without a scheme", "//127.0.0.1:{port}/r/info/refs"),
    _redirect("password", "itself with another password", "http://evil:pass@127.0.0.1:{port}/r/info/refs"),
    _redirect("itself", "itself, again and again", "/moved/r.git/info/refs?service=git-upload-pack", "HostUnreachable"),
    _redirect("garbage", "what is no URL", "http://[", "HostUnreachable"),
    _proxied("http", "a proxy on Krapao's own machine", "http"),
    _proxied("https", "the same over https", "https"),
    _proxied("socks", "the same by SOCKS 5", "socks5"),
    UrlCase(
        name="proxy-metadata",
        tries="a proxy that is to ask the metadata service",
        url="http://169.254.169.254/latest",
        credentials=lambda given, port: attrs.evolve(given, proxy_url=_text("http://proxy.example:1")),
        gets="AddressNotAllowed",
    ),
    UrlCase(
        name="proxy-name",
        tries="a proxy that is to look up the name of a metadata service",
        url="http://metadata.google.internal/latest",
        credentials=lambda given, port: attrs.evolve(given, proxy_url=_text("http://proxy.example:1")),
        gets="AddressNotAllowed",
    ),
    UrlCase(
        name="proxy-line",
        tries="a proxy with a second line in its address",
        url="http://git.example/r",
        credentials=lambda given, port: attrs.evolve(given, proxy_url=_text("http://h:1\r\nX: y")),
        gets="InvalidSpec",
        says="spec.source.repository.proxy",
    ),
    _app("loopback", "a GitHub API on Krapao's own machine", "https://127.0.0.1:{port}/api/v3", "InvalidSpec"),
    _app(
        "loopback-both",
        "the same, where the repository is there too",
        "https://127.0.0.1:{port}/api/v3",
        "AddressNotAllowed",
        "https://127.0.0.1:{port}/acme/deploy",
    ),
    _app("metadata", "the metadata service as a GitHub API", "https://169.254.169.254/api/v3", "InvalidSpec"),
    _app("plain", "a GitHub API over http", "http://ghe.example/api/v3", "InvalidSpec"),
)


def _ref(case: str, tries: str, gets: str = "RefNotFound", **ref: Any) -> UrlCase:
    return UrlCase(name=f"ref-{case}", tries=tries, ref=ref, gets=gets)


def _credential(name: str, tries: str, gets: str = "RepositoryAccessDenied", **values: str) -> UrlCase:
    return UrlCase(
        name=f"credential-{name}",
        tries=tries,
        credentials=lambda given, _: GitCredentials(**{key: _text(value) for key, value in values.items()}),
        gets=gets,
    )


REFS: Sequence[UrlCase] = (
    _ref("option", "a branch that is an option of git's", branch="--upload-pack=touch ran"),
    _ref("option-short", "a tag that is an option of git's", tag="-c"),
    _ref("dots", "a branch that leads up and out", branch="../../../../etc/passwd"),
    _ref("head", "git's own files by a ref's full name", name="../config"),
    _ref("reflog", "an expression in place of a branch (`@{-1}`)", branch="@{-1}"),
    _ref("parent", "an expression in place of a branch (`main^{/x}`)", branch="main^{/x}"),
    _ref("line", "a branch with a second line of the protocol", branch="main\n0000"),
    _ref("nul", "a branch with a NUL", branch="main\0x"),
    _ref("star", "a branch that is a pattern", branch="*"),
    _ref("long", "a branch of 100,000 characters", branch="a" * 100_000),
    _ref("nowhere", "a commit that the host does not have", commit="1" * 40),
    _ref("slow-pattern", "a pattern of tags that some engines take for ever for", tags=TagRange("*", "(a|a)*(a|a)*$")),
    _credential("header", "a token with a second header in it", token="x\r\nX-Evil: y"),
    _credential("header-bearer", "the same as a bearer token", bearer="x\r\nX-Evil: y"),
    _credential("user-colon", "a user name with a colon", username="ann:evil", token="x"),
)
