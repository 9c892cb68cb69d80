"""What happens to Pods without anybody's doing, and what their administrators do: hang, not be heard, be evicted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from support.kubernetes.api_server import ApiServer
from support.pods.churn import processes_of

_TABLE = "jiemi_unheard"


@contextmanager
def hanging(pod: Any) -> Iterator[None]:
    """Stop its processes, whose connections stay open, while the context lasts."""
    pids = processes_of(pod["metadata"]["uid"])
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):  # a program that it ran has ended
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # the kubelet has ended it
                os.kill(pid, signal.SIGCONT)


@contextmanager
def unheard(pod: Any, others: Sequence[Any]) -> Iterator[None]:
    """Drop what goes between a Pod and others, both ways, while the context lasts. The kubelet's probes get through."""
    into = ["nsenter", f"--net=/proc/{processes_of(pod['metadata']['uid'])[0]}/ns/net", "nft"]
    addresses = ", ".join(each["status"]["podIP"] for each in others)
    rules = (
        f"add table inet {_TABLE}",
        f"add chain inet {_TABLE} in {{ type filter hook input priority -300; }}",
        f"add chain inet {_TABLE} out {{ type filter hook output priority -300; }}",
        f"add rule inet {_TABLE} in ip saddr {{ {addresses} }} drop",
        f"add rule inet {_TABLE} out ip daddr {{ {addresses} }} drop",
    )
    subprocess.run([*into, "-f", "-"], input="\n".join(rules), text=True, check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run([*into, "delete", "table", "inet", _TABLE], check=True, timeout=30)


def evict(api: ApiServer, pod: str) -> int:
    """Ask the API server to evict a Pod, as `kubectl drain` does; returns the status of its answer."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": "jiemi"},
    }
    return api.call("POST", f"/api/v1/namespaces/jiemi/pods/{pod}/eviction", body).status
