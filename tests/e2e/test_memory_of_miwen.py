"""One namespace's Decryptors, however many and however large, do not end Miwen for the others.

Miwen runs under the memory limit that deploy/miwen.yaml ships, beside a real Krapao and a real API server. The greedy
namespace is there when Miwen starts, because that is what a restarted Miwen meets. Meanwhile a Decryptor of another
namespace is deployed, and follows a push. Each test prints Miwen's peak and how long the other one took.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, Service, until
from support.kubernetes.api_server import Answer
from support.kubernetes.deploy_manifests import shipped_limit_bytes
from support.processes.memory_limits import MemoryGroup, memory_group

from jiemi.core.api.crd import crd

pytestmark = pytest.mark.e2e

GREEDY, HONEST = "e2e-greedy", "e2e-honest"
_MEBIBYTE = 1024 * 1024
_DECRYPTORS = "/apis/jiemi.cr/v1alpha1/namespaces/{}/decryptors"
_PATIENCE_SECONDS = 240.0
"""The longest that the honest Decryptor may take. Where the API server has 225 MiB to list, it is what takes the time;
what was measured is printed."""


@attrs.frozen
class Greedy:
    """What a greedy namespace holds.

    Attributes:
        decryptors: by name: what each has in its spec beside the usual, in its metadata, and as its status.
        secrets: values by the Secret's name.
        files: of the repository that its Decryptors follow; where there are none, one that has no file for them.
        reasons: what its Decryptors may say in the end.
    """

    decryptors: Mapping[str, Mapping[str, Any]]
    reasons: frozenset[str]
    secrets: Mapping[str, Mapping[str, bytes]] = attrs.field(factory=dict)
    files: Mapping[str, bytes] = attrs.field(factory=dict)


def _git(name: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """A spec's part whose git credentials are keys of a Secret."""
    credentials = {field: {"secretName": name, "key": key} for field, key in keys.items()}
    return {"credentials": credentials}


def _pgp(text: str) -> dict[str, Any]:
    return {"provider": {"pgp": {"privateKey": {"literal": text}}}}


def _large_file(name: str) -> bytes:
    """A plain manifest of a mebibyte that reads as seven."""
    text = "x" * (_MEBIBYTE - 4096)
    more = "".join(f"  b{number}: *text\n" for number in range(6))
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  a: &text {text}\n{more}".encode()


_FOLDER = "/".join(["f" * 250] * 14)
"""Of files whose paths are nearly as long as a path can be."""

_ALL_FILES: dict[str, Any] = {"source": {"files": ["**"]}}

_FOUR = ("username", "token", "ssh", "knownHosts")


def _inventory(texts: int) -> list[dict[str, Any]]:
    """Entries of a megabyte together, in the form of the first release that kept an inventory."""
    return [
        {"apiVersion": "v1", "kind": "Secret", "name": f"n{number}", "namespace": GREEDY, "file": "f.yaml"}
        for number in range(texts)
    ]


def _status(**fields: Any) -> dict[str, Any]:
    current = {"id": 1, "revision": "a" * 40, "file_to_decrypt": "f", "deployed_at": None, "status": "Sync"}
    return {"current": {**current, "error_message": None}, "history": [], **fields}


_SERVED = frozenset({"FileNotFound"})
_LIMITED = _SERVED | {"NamespaceLimitExceeded"}

ATTACKS: dict[str, Callable[[], Greedy]] = {
    "one Secret of a mebibyte, four times each": lambda: Greedy(
        {f"d{n}": {"repository": _git("big", dict.fromkeys(_FOUR, "k"))} for n in range(105)},
        frozenset({"CredentialTooLarge"}),
        {"big": {"k": b"x" * (_MEBIBYTE - 64)}},
    ),
    "one Secret of a mebibyte in a thousand keys": lambda: Greedy(
        {f"d{n}": {"repository": _git("many", {"token": f"k{n}", "ssh": f"k{n + 1}"})} for n in range(300)},
        _SERVED,
        {"many": {f"k{n}": b"y" * 1024 for n in range(1000)}},
    ),
    "credentials of the largest size each": lambda: Greedy(
        {
            f"d{n}": {"repository": _git(f"s{n % 40}", {"username": "a", "token": "b", "ssh": "c", "knownHosts": "d"})}
            for n in range(200)
        },
        _LIMITED,
        {
            f"s{n}": {
                "a": b"a",
                "b": b"b",
                "c": f"{n:08}".encode() * (64 * 1024 // 8),
                "d": f"{n:08}".encode() * (512 * 1024 // 8),
            }
            for n in range(40)
        },
    ),
    "one Secret of fifty thousand keys": lambda: Greedy(
        {f"d{n}": {"repository": _git("keys", {"token": f"{n:x}", "ssh": f"{n + 1:x}"})} for n in range(300)},
        _SERVED,
        {"keys": {f"{n:x}": b"v" if n < 400 else b"" for n in range(50_000)}},
    ),
    "files of thirty-two mebibytes each": lambda: Greedy(
        {f"d{n}": _ALL_FILES for n in range(8)},
        frozenset({"ApplyRejected", "ObjectClaimed", "Reconciling"}),
        files={f"{name}.yaml": _large_file(name) for name in ("a", "b", "c", "d")},
    ),
    "thousands of long paths that wait": lambda: Greedy(
        {f"d{n}": {**_ALL_FILES, "spec": {"dependsOn": [{"name": "nothing"}]}} for n in range(120)},
        frozenset({"DependencyNotReady", "NamespaceLimitExceeded"}),
        files={f"{_FOLDER}/{number}.yaml": b"" for number in range(1_000)},
    ),
    "literals of a mebibyte": lambda: Greedy(
        {f"d{n}": _pgp(f"{n:08}" * (_MEBIBYTE // 8)) for n in range(225)}, frozenset({"InvalidSpec"})
    ),
    "literals of the largest size": lambda: Greedy(
        {f"d{n}": _pgp(f"{n:08}" * (_MEBIBYTE // 2 // 8)) for n in range(225)},
        _LIMITED,
    ),
    "literals of wide characters": lambda: Greedy(
        {f"d{n}": _pgp(f"{n:08}" + "x" * 500_000 + "\U0001f511") for n in range(225)},
        _LIMITED,
    ),
    "annotations": lambda: Greedy(
        {f"d{n}": {"annotations": {f"a{m}": "" for m in range(22_000)}} for n in range(225)},
        _SERVED,
    ),
    "statuses of a mebibyte": lambda: Greedy(
        {f"d{n}": {"status": _status(inventory=_inventory(4000), deployedGeneration=1)} for n in range(80)},
        _LIMITED,
    ),
    "three thousand small ones": lambda: Greedy(
        {f"d{n}": {} for n in range(3000)},
        _LIMITED,
    ),
}


def _without_bounds(schema: Any) -> Any:
    """The CustomResourceDefinition as it was before credentials had a bound. Its rules go too: the API server takes
    none over what has no bound."""
    if isinstance(schema, dict):
        left_out = {"maxLength", "maxItems", "x-kubernetes-validations"}
        return {name: _without_bounds(part) for name, part in schema.items() if name not in left_out}
    return [_without_bounds(part) for part in schema] if isinstance(schema, list) else schema


@attrs.frozen
class Scene:
    """A Krapao, the honest Decryptor's repository, and the URL of one that anyone may read."""

    lab: Lab
    krapao: str
    repository: Repository
    readable: str


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    lab.namespace(HONEST)
    _, address = lab.start_krapao()
    repository = lab.repository({"secret.enc.yaml": lab.encrypt(_secret("one"))})
    try:
        yield Scene(lab, address, repository, lab.repository({"README.md": b""}).url)
    finally:
        lab.end_services()
        _delete_all(lab, HONEST)
        lab.admin.apply(crd()).ok()


def _secret(value: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "app", "namespace": HONEST},
            "stringData": {"value": value},
        }
    )


def _delete_all(lab: Lab, namespace: str) -> None:
    """Delete the Decryptors of a namespace, a few at a time: together they may be more than one request can carry."""
    path = _DECRYPTORS.format(namespace)

    def delete(name: str) -> None:
        answer = lab.admin.call("DELETE", f"{path}/{name}")
        assert answer.status in {200, 404}, answer.body

    deadline = time.monotonic() + 300
    while found := lab.admin.call("GET", f"{path}?limit=8").ok()["items"]:
        assert time.monotonic() < deadline, "no Decryptor is left"
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(delete, [each["metadata"]["name"] for each in found]))


def _put(lab: Lab, greedy: Greedy, url: str) -> None:
    """Make what the greedy namespace holds, as if it had been there before any bound."""
    lab.namespace(GREEDY)
    lab.admin.apply(_without_bounds(crd())).ok()
    for name, values in greedy.secrets.items():
        data = {key: base64.b64encode(value).decode() for key, value in values.items()}
        path = f"/api/v1/namespaces/{GREEDY}/secrets"
        lab.admin.call("DELETE", f"{path}/{name}")
        lab.admin.call("POST", path, {"metadata": {"name": name}, "data": data}).ok()

    def make(item: tuple[str, Mapping[str, Any]]) -> None:
        name, more = item
        given = {key: more[key] for key in ("provider", "repository", "source") if key in more}
        manifest = lab.decryptor(GREEDY, name, url, file="nothing.yaml", **given)
        manifest["spec"] |= more.get("spec") or {}
        if "source" in more:
            del manifest["spec"]["source"]["fileToDecrypt"]
        manifest["metadata"]["annotations"] = more.get("annotations") or {}
        made = lab.admin.call("POST", _DECRYPTORS.format(GREEDY), manifest).ok()
        if "status" in more:
            made["status"] = more["status"]
            lab.admin.call("PUT", f"{_DECRYPTORS.format(GREEDY)}/{name}/status", made).ok()

    until("the CRD takes it", lambda: _takes(lab, "probe"), seconds=30, on_failure=lambda: _ask(lab, "probe"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, greedy.decryptors.items()))
    lab.admin.apply(crd()).ok()


def _takes(lab: Lab, name: str) -> bool:
    """Whether the API server has taken the CustomResourceDefinition without bounds up."""
    return _ask(lab, name).status == 201


def _ask(lab: Lab, name: str) -> Answer:
    manifest = lab.decryptor(GREEDY, name, "https://git.invalid/x.git", **_pgp("x" * _MEBIBYTE))
    return lab.admin.call("POST", f"{_DECRYPTORS.format(GREEDY)}?dryRun=All", manifest)


def _reasons(lab: Lab) -> dict[str, int]:
    """How many of the greedy Decryptors say what."""
    found: dict[str, int] = {}
    token = ""
    while True:
        answer = lab.admin.call("GET", f"{_DECRYPTORS.format(GREEDY)}?limit=5{token}")
        if answer.status == 410:
            # What is listed is minutes old where the list is that large: once more from the start.
            found, token = {}, ""
            continue
        page = answer.ok()
        for each in page["items"]:
            conditions = (each.get("status") or {}).get("conditions") or [{"type": "Ready", "reason": ""}]
            reason = next((one["reason"] for one in conditions if one["type"] == "Ready"), "")
            found[reason] = found.get(reason, 0) + 1
        if not page["metadata"].get("continue"):
            return found
        token = f"&continue={page['metadata']['continue']}"


@contextlib.contextmanager
def _miwen(scene: Scene, group: MemoryGroup, log: Path) -> Iterator[Service]:
    arguments = ("--krapao", scene.krapao, "--kubeconfig", scene.lab.kubeconfig, "--interval", "1m")
    with log.open("wb") as output:
        process = group.popen(
            [sys.executable, "-m", "jiemi", "miwen", *map(str, arguments)], stdout=output, stderr=output
        )
    service = Service("miwen", process, log)
    try:
        yield service
    finally:
        service.end()


_QUICK = (
    "one Secret of a mebibyte, four times each",
    "credentials of the largest size each",
    "thousands of long paths that wait",
)
"""The others take the API server minutes: `just soak-memory` runs them."""


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.soak) for name in ATTACKS]
)
def test_a_greedy_namespace_ends_nobody_else(scene: Scene, name: str, tmp_path: Path, record_property: Any) -> None:
    lab, greedy = scene.lab, ATTACKS[name]()
    _delete_all(lab, HONEST)
    lab.admin.call("DELETE", f"/api/v1/namespaces/{HONEST}/secrets/app")
    revision = scene.repository.commit({"secret.enc.yaml": lab.encrypt(_secret("one"))})
    try:
        _put(lab, greedy, lab.repository(greedy.files).url if greedy.files else scene.readable)
        honest = lab.decryptor(HONEST, "app", scene.repository.url)
        honest["spec"]["interval"] = "1s"
        lab.admin.apply(honest).ok()
        with (
            memory_group(shipped_limit_bytes("miwen.yaml")) as group,
            _miwen(scene, group, tmp_path / "miwen.log") as service,
        ):

            def synced(wanted: str) -> bool:
                assert service.process.poll() is None, (group.kills, group.peak_bytes, service.log_text()[-2000:])
                current = lab.status(HONEST, "app").get("current") or {}
                return (current.get("status"), current.get("revision")) == ("Sync", wanted)

            begin = time.monotonic()
            until("the honest one is deployed", lambda: synced(revision), seconds=_PATIENCE_SECONDS)
            first = time.monotonic() - begin
            reasons = until(
                "the greedy ones say why",
                lambda: found if "" not in (found := _reasons(lab)) and synced(revision) else None,
                seconds=300,
                on_failure=lambda: (_reasons(lab), service.log_text()[-3000:]),
            )
            revision = scene.repository.commit({"secret.enc.yaml": lab.encrypt(_secret("two"))})
            begin = time.monotonic()
            until("the honest one follows a push", lambda: synced(revision), seconds=_PATIENCE_SECONDS)
            figures = {
                "peak MiB": round(group.peak_bytes / _MEBIBYTE),
                "first s": round(first, 1),
                "push s": round(time.monotonic() - begin, 1),
                "reasons": reasons,
            }
            sys.stderr.write(f"\n{name}: {figures}\n")
            record_property("figures", figures)
            assert group.kills == 0
            assert service.process.poll() is None
            assert set(reasons) <= greedy.reasons
    finally:
        _delete_all(lab, GREEDY)
