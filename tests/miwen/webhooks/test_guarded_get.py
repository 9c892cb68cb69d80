"""The one request that Miwen makes to hosts that others may have chosen: over real TLS, within bounds."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from support.network.addresses import LOOPBACK
from support.network.https import authority, server_of
from support.network.listening import listening
from support.webhooks.requests import NOW
from support.webhooks.signed import Issuer, oidc_request

from jiemi.core.address_rules import AddressRules, read_network
from jiemi.core.webhooks.oidc import OidcTrust
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.guarded_get import GetError, GuardedGet
from jiemi.miwen.webhooks.receiver import Delivery, Outcome
from jiemi.miwen.webhooks.signing_keys import SigningKeys

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


@contextlib.asynccontextmanager
async def served(
    folder: Path, *answers: bytes, by_path: dict[str, bytes] | None = None
) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A host over TLS that gives the answers one after the other; its port, and whom to trust."""
    signer = authority()
    left = list(answers)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            head = b""
            while b"\r\n\r\n" not in head:
                more = await stream.receive_some(4_096)
                if not more:
                    return
                head += more
            if by_path is not None:
                body = by_path[head.split(b" ")[1].decode()]
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            elif left:
                await stream.send_all(left.pop(0))
            else:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(
                trio.serve_ssl_over_tcp, serve, 0, server_of(signer, folder), host="127.0.0.1", https_compatible=True
            )
        )
        trusted = ssl.create_default_context(cadata=signer.certificate_pem().decode())
        yield listeners[0].transport_listener.socket.getsockname()[1], trusted
        nursery.cancel_scope.cancel()


async def test_a_page_is_had_from_a_host_that_is_trusted_and_allowed(tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
    async with served(tmp_path, OK, chunked) as (port, tls):
        for _ in range(2):
            assert await GuardedGet(LOOPBACK, tls).get(f"https://127.0.0.1:{port}/x?y", max_bytes=4) == b"body"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody!", "too long"),
        (b"HTTP/1.1 302 Go\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "it answers 302"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "it answers 404"),
        (b"canary\r\n\r\n", "no HTTP server"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", "no HTTP server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nb", "no HTTP server"),
    ],
)
async def test_an_answer_that_is_no_page_is_an_error(tmp_path: Path, answer: bytes, says: str) -> None:
    async with served(tmp_path, answer) as (port, tls):
        with pytest.raises(GetError, match=says) as caught:
            await GuardedGet(LOOPBACK, tls).get(f"https://127.0.0.1:{port}/", max_bytes=4)
        assert "canary" not in str(caught.value)


async def test_a_host_that_says_nothing_or_speaks_no_tls_or_is_not_trusted_is_an_error(tmp_path: Path) -> None:
    async with served(tmp_path) as (port, tls):
        with pytest.raises(GetError, match="takes too long"):
            await GuardedGet(LOOPBACK, tls, 0.3).get(f"https://127.0.0.1:{port}/", max_bytes=4)
        with pytest.raises(GetError, match="does not verify"):
            await GuardedGet(LOOPBACK, ssl.create_default_context()).get(f"https://127.0.0.1:{port}/", max_bytes=4)
    with listening(lambda sock: sock.sendall(OK)) as (port, _), pytest.raises(GetError, match="does not speak TLS"):
        await GuardedGet(LOOPBACK, tls).get(f"https://127.0.0.1:{port}/", max_bytes=4)
    with pytest.raises(GetError, match="can't be reached"):
        await GuardedGet(LOOPBACK, tls).get("https://127.0.0.1:1/", max_bytes=4)
    with pytest.raises(GetError, match="name is not known"):
        await GuardedGet(LOOPBACK, tls).get(f"https://{'x' * 64}.example/", max_bytes=4)


@pytest.mark.parametrize(
    ("host", "rules"),
    [
        ("127.0.0.1", AddressRules()),
        ("localhost", AddressRules()),
        ("[::1]", AddressRules()),
        ("169.254.169.254", AddressRules()),
        ("metadata.google.internal", AddressRules()),
        ("127.0.0.1", AddressRules(denied=(read_network("127.0.0.1"),), allowed=LOOPBACK.allowed)),
    ],
)
async def test_a_forbidden_address_is_not_connected_to(host: str, rules: AddressRules) -> None:
    with listening() as (port, came):
        with pytest.raises(GetError, match="does not connect to its address"):
            await GuardedGet(rules, ssl.create_default_context()).get(f"https://{host}:{port}/", max_bytes=4)
        assert came == []


async def test_a_token_is_verified_with_the_keys_of_its_issuer_over_tls(tmp_path: Path) -> None:
    pages: dict[str, bytes] = {}
    async with served(tmp_path, by_path=pages) as (port, tls):
        issuer = Issuer(f"https://127.0.0.1:{port}/realm")
        pages |= {"/realm/.well-known/openid-configuration": issuer.description(), "/realm/keys": issuer.keys()}
        webhook = Webhook(("a", "b"), "oidc", (), trust=OidcTrust(issuer.url, "jiemi", "**"))
        verifier = Verifier({webhook.key: webhook}, lambda: NOW, SigningKeys(GuardedGet(LOOPBACK, tls).get))
        for token, found in ((issuer.token("ES256"), webhook), (Issuer(issuer.url).token(), Outcome.FORGED)):
            sent = oidc_request(token)
            delivery = Delivery(webhook.key, b"", sent.headers)
            assert await verifier.webhook_of(delivery, sent.body) == found
