"""How fast many Decryptors of one repository are deployed, and what that costs: `just bench-follow [COUNT]`.

The work: COUNT objects, each one age-encrypted file with one Secret, in one
repository over http, on the embedded control plane. It prints seconds until all Secrets are there, CPU seconds of each
process (children that ended included), the same for one changed file, and for a minute in which nothing happens.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.bench_lab import open_lab
from support.e2e.lab import Lab, Service, until
from support.kubernetes.api_server import ApiServer

NAMESPACE = "bench"
IDLE_SECONDS = 60


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that ended (proc_pid_stat(5), fields 14 to 17)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return sum(int(each) for each in fields[11:15]) / 100


def peak_mebibytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0


def secrets_present(admin: ApiServer) -> int:
    listed = admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets").ok()
    return sum(item["metadata"]["name"].startswith("s") for item in listed["items"])


def measure(lab: Lab, count: int, api_server_pid: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        texts = [
            json.dumps(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{n}"}, "stringData": {"value": f"v{n}"}}
            )
            for n in range(count)
        ]
        files = dict(zip((f"s{n}.yaml" for n in range(count)), pool.map(lab.encrypt, texts), strict=True))
    repository = lab.repository(files)
    lab.namespace(NAMESPACE)
    krapao, address = lab.start_krapao()
    miwen = lab.start_miwen(address, NAMESPACE, interval="3m")
    watched: dict[str, int] = {
        "krapao": krapao.process.pid,
        "miwen": miwen.process.pid,
        "kube-apiserver": api_server_pid,
    }

    def timed(what: str, action: Callable[[], object], check: Callable[[], object], *, seconds: float = 600) -> None:
        before = {name: cpu_seconds(pid) for name, pid in watched.items()}
        began = time.monotonic()
        action()
        until(what, check, seconds=seconds)
        took = time.monotonic() - began
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in watched.items()}
        print(
            f"{what}: {took:.1f} s; CPU seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in spent.items())
        )

    def apply_all() -> None:
        for n in range(count):
            lab.admin.apply(lab.decryptor(NAMESPACE, f"d{n}", repository.url, file=f"s{n}.yaml")).ok()

    timed(f"{count} Secrets present", apply_all, lambda: secrets_present(lab.admin) == count)
    time.sleep(5)
    timed(f"idle for {IDLE_SECONDS} s", lambda: time.sleep(IDLE_SECONDS), lambda: True)

    def push_and_tell() -> None:
        changed = json.loads(texts[0]) | {"stringData": {"value": "changed"}}
        repository.commit({"s0.yaml": lab.encrypt(json.dumps(changed))})
        # One new Decryptor asks Krapao at once, and Krapao tells the others that the repository moved.
        lab.admin.apply(lab.decryptor(NAMESPACE, "teller", repository.url, file="none.yaml")).ok()

    timed(
        "one changed file, told at once: until its Secret has it",
        push_and_tell,
        lambda: lab.data(NAMESPACE, "s0") == {"value": "changed"},
    )
    for service in (krapao, miwen):
        _say_peak(service)


def _say_peak(service: Service) -> None:
    print(f"peak memory of {service.name}: {peak_mebibytes(service.process.pid):.0f} MiB")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with open_lab() as (lab, api_server_pid):
        measure(lab, count, api_server_pid)


if __name__ == "__main__":
    main()
