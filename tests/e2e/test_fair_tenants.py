"""One tenant whose hosts never answer, and another one's push meanwhile. Everything real."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import pytest
import trio
from dripping_host import DrippingHost, dripping_host
from e2e_lab import Lab, until

pytestmark = pytest.mark.e2e

DECRYPTORS = 60


@contextlib.contextmanager
def dripping_hosts(number: int) -> Iterator[list[DrippingHost]]:
    """So many, in a thread of their own."""
    hosts: list[DrippingHost] = []
    ready, end = threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(number):
                hosts.append(await stack.enter_async_context(dripping_host()))
            tokens.append(trio.lowlevel.current_trio_token())
            ready.set()
            await end.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(20)
    try:
        yield hosts
    finally:
        tokens[0].run_sync_soon(end.set)
        thread.join(20)


def test_a_push_is_followed_while_sixty_decryptors_of_another_tenant_hang(lab: Lab) -> None:
    honest, hostile = lab.namespace("e2e-fair-honest"), lab.namespace("e2e-fair-hostile")
    _, address = lab.start_krapao()
    lab.start("miwen", "--krapao", address, "--kubeconfig", lab.kubeconfig, "--interval", "1s")

    def files(value: str) -> dict[str, bytes]:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"v": value}}
        return {"secret.enc.yaml": lab.encrypt(json.dumps(secret))}

    repository = lab.repository(files("one"))
    first = repository.run("rev-parse", "HEAD")
    lab.admin.apply(lab.decryptor(honest, "app", repository.url)).ok()
    lab.until_synced(honest, "app", first)
    names = [f"d{number}" for number in range(DECRYPTORS)]
    with dripping_hosts(2) as hosts:
        for number, name in enumerate(names):
            lab.admin.apply(lab.decryptor(hostile, name, f"{hosts[number % 2].url}/{name}.git")).ok()
        until("the hostile hosts hold what they can get", lambda: sum(host.connected for host in hosts) >= 24)
        second = repository.commit(files("two"))
        lab.until_synced(honest, "app", second)
        assert lab.data(honest, "s") == {"v": "two"}
        # Not one of them has come to an end, so it was not waited for.
        assert not any((lab.status(hostile, name).get("current") or {}).get("error_message") for name in names)
        # Krapao knows neither by name.
        lab.end_services()
        of_krapao = "".join(path.read_text(errors="replace") for path in lab.folder.glob("krapao-*.log"))
        assert "moved" in of_krapao
        assert "e2e-fair" not in of_krapao
