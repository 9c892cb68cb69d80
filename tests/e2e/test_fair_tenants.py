"""Tenants whose hosts never answer, answer without end, or whose files take long; and another one's push meanwhile.

Everything is real, and both services run under the memory limits that deploy/ ships. The test prints what they took.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from support.e2e.lab import Lab, until
from support.kubernetes.deploy_manifests import shipped_limit_bytes
from support.network.dripping_host import DrippingHost, dripping_host
from support.processes.memory_limits import memory_group

pytestmark = pytest.mark.e2e

DRIPPING = 60
HELD = 24
"""How many of these Krapao asks at once, at the most."""
ENDLESS = 20
SLOW_FILES = 12


@contextlib.contextmanager
def hostile_hosts() -> Iterator[list[DrippingHost]]:
    """Two that drip, and one that says without end that it goes on; in a thread of their own."""
    hosts: list[DrippingHost] = []
    ready, end = threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            hosts.extend([await stack.enter_async_context(dripping_host()) for _ in range(2)])
            endless = dripping_host(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, pause_seconds=0)
            hosts.append(await stack.enter_async_context(endless))
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


def _reasons(lab: Lab, namespace: str) -> set[str]:
    """What the Decryptors of a namespace say."""
    found = (lab.status(namespace, f"d{number}").get("conditions") or () for number in range(SLOW_FILES))
    return {condition["reason"] for conditions in found for condition in conditions}


def test_a_push_is_followed_while_the_decryptors_of_other_tenants_hang_flood_and_take_long(
    lab: Lab, record_property: Any
) -> None:
    honest = lab.namespace("e2e-fair-honest")
    hostile, endless, slow = (lab.namespace(f"e2e-fair-{name}") for name in ("hostile", "endless", "slow"))
    with (
        memory_group(shipped_limit_bytes("repository.yaml")) as of_krapao,
        memory_group(shipped_limit_bytes("miwen.yaml")) as of_miwen,
    ):
        krapao, address = lab.start_krapao(group=of_krapao)
        arguments = ("--krapao", address, "--kubeconfig", lab.kubeconfig, "--interval", "1s")
        miwen = lab.start("miwen", *arguments, group=of_miwen)

        def files(value: str) -> dict[str, bytes]:
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"v": value}}
            return {"secret.enc.yaml": lab.encrypt(json.dumps(secret))}

        repository = lab.repository(files("one"))
        first = repository.run("rev-parse", "HEAD")
        lab.admin.apply(lab.decryptor(honest, "app", repository.url)).ok()
        lab.until_synced(honest, "app", first)
        # Read in 3 s each, and no manifest in the end.
        long_ones = lab.repository({f"{number}.yaml": b"a:\n" + b"- a\n" * 190_000 for number in range(SLOW_FILES)})
        names = [f"d{number}" for number in range(DRIPPING)]
        with hostile_hosts() as (*dripping, flooding):
            for number, name in enumerate(names):
                lab.admin.apply(lab.decryptor(hostile, name, f"{dripping[number % 2].url}/{name}.git")).ok()
            for number in range(ENDLESS):
                lab.admin.apply(lab.decryptor(endless, f"d{number}", f"{flooding.url}/{number}.git")).ok()
            for number in range(SLOW_FILES):
                manifest = lab.decryptor(slow, f"d{number}", long_ones.url, source={"files": [f"{number}.yaml"]})
                del manifest["spec"]["source"]["fileToDecrypt"]
                lab.admin.apply(manifest).ok()
            until(
                "the hostile hosts hold what they can get",
                lambda: sum(host.connected for host in dripping) >= HELD and flooding.most_connected > 0,
            )
            second = repository.commit(files("two"))
            began = time.monotonic()
            lab.until_synced(honest, "app", second)
            seconds = time.monotonic() - began
            assert lab.data(honest, "s") == {"v": "two"}
            # In one queue all that were before it would have begun, and so most have ended: each is dropped after 20 s.
            ended = [name for name in names if (lab.status(hostile, name).get("current") or {}).get("error_message")]
            assert len(ended) < DRIPPING - HELD
            # Those that flood are cut off; which ports speak what is told to no one.
            lab.until_reason(endless, "d0", "HostUnreachable")
            until("one of the long files was read", lambda: "NotAKubernetesObject" in _reasons(lab, slow))
            figures = {
                "push s": round(seconds, 1),
                "Krapao's peak MiB": of_krapao.peak_bytes // 1024**2,
                "Miwen's peak MiB": of_miwen.peak_bytes // 1024**2,
            }
            sys.stderr.write(f"\n{figures}\n")
            record_property("figures", figures)
            assert (of_krapao.kills, of_miwen.kills) == (0, 0)
            assert (krapao.process.poll(), miwen.process.poll()) == (None, None)
            # Krapao knows nobody by name.
            lab.end_services()
            of_krapao_log = "".join(path.read_text(errors="replace") for path in lab.folder.glob("krapao-*.log"))
            assert "moved" in of_krapao_log
            assert "e2e-fair" not in of_krapao_log
