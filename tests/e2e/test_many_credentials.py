"""Many Decryptors with credentials of their own: nothing is left of them, and what they take does not grow.

What is bounded is measured on 2 cores; beside each bound stands what was measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from doubles.vault import open_vault
from pyrage import x25519
from support.e2e.lab import WAIT_SECONDS, Lab, until
from support.e2e.providers import operator_environment, provider_of
from support.krapao.key_services import KeyService, secret
from support.processes.samples import (
    MEBIBYTE,
    Sampler,
    children_of,
    left_in,
    memory_bytes,
    private_folders,
    processes_that_name,
    show,
)

from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, DecryptionKey, VaultKey

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-many-credentials"
DECRYPTORS = 200
MAX_HOLDERS = 8


def test_many_decryptors_with_as_many_credentials_leave_nothing_and_take_no_more_memory_in_the_end(
    lab: Lab,
) -> None:
    """age and vault in turn. All are deployed, deployed again twice, and removed."""
    lab.namespace(NAMESPACE)
    runtime = lab.folder / "runtime"
    runtime.mkdir()
    names = [f"d{number}" for number in range(DECRYPTORS)]
    with open_vault() as vault:
        krapao, address = lab.start_krapao(
            "--runtime-dir", runtime, "--max-holders", MAX_HOLDERS, environment=operator_environment()
        )
        lab.start_miwen(address, NAMESPACE, interval="2s")
        of_vault = KeyService("vault", ("--hc-vault-transit", vault.create_key("k")), vault.environment(), *_NO_KEYS)
        keys: list[DecryptionKey] = []
        services: list[KeyService] = []
        for number in range(DECRYPTORS):
            if number % 2:
                keys.append(VaultKey(address=secret(vault.address), token=secret(vault.create_token())))
                services.append(of_vault)
            else:
                identity = x25519.Identity.generate()
                keys.append(AgeKey(secret(str(identity))))
                services.append(KeyService("age", ("--age", str(identity.to_public())), {}, *_NO_KEYS))
        repository = lab.repository(_many_files(lab, names, services))
        revision = repository.run("rev-parse", "HEAD")
        pid = krapao.process.pid
        sampler = Sampler(pid, runtime)
        began = time.monotonic()
        with sampler.sampling():
            for place in (names[: DECRYPTORS // 10], names[DECRYPTORS // 10 :]):
                for name in place:
                    key = keys[names.index(name)]
                    provider = provider_of(key)
                    manifest = lab.decryptor(NAMESPACE, name, repository.url, file=f"{name}.yaml", provider=provider)
                    lab.admin.apply(manifest).ok()
                _until_all_follow(lab, place, revision)
                if place[0] == names[0]:
                    after_a_tenth = memory_bytes(pid)
            after_all = memory_bytes(pid)
            deployed = time.monotonic() - began
            # Nothing in any file changes, but all is decrypted and applied again, as the annotation asks.
            again = []
            for number in range(2):
                for name in names:
                    annotation = {"metadata": {"annotations": {"jiemi.cr/reconcile-at": str(number)}}}
                    path = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/{name}"
                    lab.admin.call("PATCH", path, annotation, "application/merge-patch+json").ok()
                _until_all_follow(lab, names, revision, asked=str(number))
                again.append(memory_bytes(pid))
        seconds = time.monotonic() - began
        assert set(vault.tokens_seen) >= {key.token.reveal() for key in keys if isinstance(key, VaultKey) and key.token}
        lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors").ok()
        # Long before the minute after which an unused one ends by itself.
        until("no holder is left", lambda: children_of(pid) == [], seconds=20, on_failure=lambda: children_of(pid))
        # Each folder goes right after its holder.
        until("no folder is left", lambda: private_folders(runtime) == [], seconds=20)
        lab.end_services()
        assert "render_failed" not in krapao.log_text()
    memory = (after_a_tenth, after_all, *again)
    show(seconds=(deployed, seconds), memory_kib=[each // 1024 for each in memory], sampler=sampler)
    assert sampler.samples > 100
    assert sampler.most_holders == MAX_HOLDERS
    assert sampler.most_folders <= MAX_HOLDERS + KrapaoSettings(state_dir=runtime).decrypt_concurrency
    assert left_in(runtime) == []
    assert processes_that_name(runtime) == []
    # Measured: 10 MiB with all 200, which the repositories that are kept open take, and their connection's buffers.
    assert after_all - after_a_tenth < 20 * MEBIBYTE
    # Measured: 0.4 MiB, and less with each further round. A holder that left 10 KiB would make it 2 MiB.
    assert again[1] - again[0] < 2 * MEBIBYTE


_NO_KEYS: tuple[DecryptionKey, DecryptionKey] = (VaultKey(), VaultKey())
"""For a service that only encrypts."""


def _many_files(lab: Lab, names: Sequence[str], services: Sequence[KeyService]) -> dict[str, bytes]:
    """A file with a Secret for each."""

    def encrypt(name: str, service: KeyService) -> bytes:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"value": name}}
        return service.encrypt(lab.tools["sops"], json.dumps(manifest).encode(), "yaml")

    with ThreadPoolExecutor(4) as pool:
        return {f"{name}.yaml": data for name, data in zip(names, pool.map(encrypt, names, services), strict=True)}


def _until_all_follow(lab: Lab, names: Sequence[str], revision: str, *, asked: str | None = None) -> None:
    """Wait until a revision is deployed by each Decryptor, as the annotation asked last; all are listed at once."""
    path = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors"

    def others() -> list[str]:
        statuses = {
            item["metadata"]["name"]: item.get("status", {}) for item in lab.admin.call("GET", path).ok()["items"]
        }
        return [name for name in names if _state(statuses[name]) != ("Sync", revision, asked)]

    # A round takes about 10 s, on a machine that is busy with other tests three times as long.
    until("all follow", lambda: not others(), seconds=3 * WAIT_SECONDS, on_failure=lambda: others()[:3])


def _state(status: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    current = status.get("current", {})
    return current.get("status"), current.get("revision"), status.get("lastHandledReconcileAt")
