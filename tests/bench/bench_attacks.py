"""What attacks on a running Jiemi cost, and what an honest tenant waits for meanwhile: `just bench-attacks [NAME…]`.

Krapao and Miwen run as deploy/ ships them: Miwen as its ServiceAccount, with its roles and the admission policy; both
under the memory limits of their containers; over tcp, with TLS. One tenant attacks, in one way after the
other; another one pushes again and again, and waits until the cluster has it. Of each attack are printed

- how long it took until each of its Decryptors said why it gets nothing;
- how long the honest pushes took meanwhile (the median, and the longest);
- the most memory that each service had used by then.

What peers at Krapao's port do is measured by tests/rpc/test_hostile_peers.py (with `-s`), what greedy namespaces do to
Miwen by `just soak-memory`, hosts that never answer by `just bench-tenants` as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
from bench.bench_lab import open_lab
from e2e.test_fair_tenants import hostile_hosts
from support.e2e.lab import Lab, Repository, Service, until
from support.e2e.listener import listener
from support.e2e.scene import MERGE, Scene, listed, secret
from support.kubernetes.deploy_manifests import DEPLOY, read_kustomization, shipped_limit_bytes
from support.network.tls_folders import TestAuthority, TlsPair, tls_pair
from support.processes.memory_limits import MemoryGroup, memory_group

from jiemi.cli.tls_identities import identity_of_folder
from jiemi.core.errors import JiemiError
from jiemi.rpc.address import parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, connect
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.tls_names import MIWEN_NAME

_MEBIBYTE = 1024 * 1024
_PATIENCE_SECONDS = 300.0
_STORE_MEBIBYTES = 64
"""A namespace's share of the volume here: what fills 4 GiB takes long to make."""


@attrs.define
class Honest:
    """The honest tenant, who pushes from a thread of his own until the end.

    Attributes:
        took: seconds from each push until the cluster had it, since the list was emptied.
        error: what ended it, if something did.
    """

    scene: Scene
    repository: Repository
    took: list[float] = attrs.field(factory=list)
    error: BaseException | None = None
    _ended: threading.Event = attrs.field(factory=threading.Event)

    @contextlib.contextmanager
    def pushing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._push)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _push(self) -> None:
        number = 0
        try:
            while not self._ended.wait(0.2):
                number += 1
                value = f"push-{number}"
                self.scene.commit(self.repository, secret("app", value=value))
                began = time.monotonic()
                while self.scene.data("app") != {"value": value}:
                    if time.monotonic() - began > _PATIENCE_SECONDS:
                        raise TimeoutError("a push of the honest tenant was not followed")
                    time.sleep(0.02)
                self.took.append(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that measures
            self.error = error


@attrs.define
class Field:
    """What an attack works with.

    Attributes:
        mine: the attacker's namespace; theirs: the honest tenant's.
        address, state: of Krapao.
        authority: whose certificates the two have.
        restart: end Miwen, do something, and start it again.
        files: what is made up for the attack, on a disk.
    """

    lab: Lab
    mine: Scene
    theirs: Scene
    address: str
    state: Path
    authority: TestAuthority
    restart: Callable[[Callable[[], None]], None]
    notes: list[str] = attrs.field(factory=list)

    def until_all_say(self, *reasons: str) -> None:
        """Until each Decryptor of the attacker's says one of these reasons about its newest spec."""

        def check() -> bool:
            items = self.lab.admin.call("GET", self.mine.path("").rstrip("/")).ok()["items"]
            found = [_reason(item) for item in items]
            return bool(found) and all(reason in reasons for reason in found)

        def why() -> str:
            items = self.lab.admin.call("GET", self.mine.path("").rstrip("/")).ok()["items"]
            return ", ".join(sorted({_reason(item) for item in items}))

        until(f"all say {reasons}", check, seconds=_PATIENCE_SECONDS, on_failure=why)

    def put(self, name: str, url: str, **source: Any) -> None:
        manifest = self.mine.decryptor(name, url, source=source or None)
        if "files" in source:
            del manifest["spec"]["source"]["fileToDecrypt"]
        self.lab.admin.apply(manifest).ok()


def _reason(item: Mapping[str, Any]) -> str:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((each["reason"] for each in conditions if each["type"] == "Ready"), "")


def _own_objects(field: Field) -> None:
    """A1: Decryptors and tokens out of a repository."""
    lab, mine = field.lab, field.mine
    lab.secret(field.theirs.namespace, "token", token="canary-of-the-honest-tenant")
    with listener() as stranger:
        evil = [
            lab.decryptor(
                scene.namespace,
                f"evil-{number}",
                f"{stranger.url}/x.git",
                repository={
                    "credentials": {"username": {"literal": "x"}, "token": {"secretName": "token", "key": "token"}}
                },
            )
            for scene in (mine, field.theirs)
            for number in range(20)
        ]
        token = secret("account", field.theirs.namespace)
        token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "default"}
        token["type"] = "kubernetes.io/service-account-token"
        url = lab.repository({"a.yaml": listed(*evil, token).encode()}).url
        for number in range(20):
            field.put(f"d{number}", url, files=["a.yaml"])
        field.until_all_say("ObjectProtected")
        time.sleep(5)
        assert stranger.requests == []
        field.notes.append(f"{20 * 41} objects refused; the stranger heard {len(stranger.requests)} requests")


def _strangers(field: Field) -> None:
    """A4: clients without a certificate, with one of another authority or name, sixteen at once for 20 s."""
    refused: Counter[str] = Counter()
    folder = field.lab.folder
    other = TestAuthority().write(folder / "stranger", MIWEN_NAME, accepts=[field.authority])
    named = field.authority.write(folder / "named", MIWEN_NAME, hosts=("somebody",))
    ways = [None, ClientTls(identity_of_folder(other)), ClientTls(identity_of_folder(named))]

    async def stranger(tls: ClientTls | None, until_time: float) -> None:
        settings = ClientSettings(wait_for_connection_seconds=5)
        while trio.current_time() < until_time:
            try:
                async with (
                    open_bridge() as bridge,
                    connect(parse_address(field.address), bridge=bridge, settings=settings, tls=tls) as krapao,
                    krapao.open(Source("git://127.0.0.1/x.git"), GitCredentials()) as repository,
                ):
                    await repository.head(max_age_seconds=0)
            except JiemiError as error:
                refused[error.failure.reason] += 1
            else:
                refused["served"] += 1

    async def all_of_them() -> None:
        ends = trio.current_time() + 20
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(stranger, ways[number % len(ways)], ends)

    trio.run(all_of_them)
    assert set(refused) <= {"KrapaoAccessDenied", "KrapaoUnavailable"}, refused
    field.notes.append(f"in 20 s: {dict(refused)}")


def _dripping(field: Field) -> None:
    """A5: 60 Decryptors on hosts that drip, 20 on one that floods, 12 files that take seconds to be parsed."""
    long_ones = field.lab.repository({f"{number}.yaml": b"a:\n" + b"- a\n" * 190_000 for number in range(12)})
    with hostile_hosts() as (*dripping, flooding):
        for number in range(60):
            field.put(f"d{number}", f"{dripping[number % 2].url}/{number}.git")
        for number in range(20):
            field.put(f"e{number}", f"{flooding.url}/{number}.git")
        for number in range(12):
            field.put(f"l{number}", long_ones.url, files=[f"{number}.yaml"])
        field.until_all_say("HostUnreachable", "Timeout", "NotAKubernetesObject")


def _volume(field: Field) -> None:
    """A6: one repository in 120 spellings, and repositories beyond the namespace's share."""
    before = set(_clones(field.state))
    one = field.lab.repository({"a.txt": os.urandom(_MEBIBYTE)})
    host, _, name = one.url.rpartition("/")
    spellings = [f"{host}{'/' * (n % 10 + 1)}{'./' * (n // 10)}{name}" for n in range(120)]
    for number, url in enumerate(spellings):
        field.put(f"s{number}", url)
    field.until_all_say("FileNotFound")
    field.notes.append(f"{len(set(_clones(field.state)) - before)} clone for {len(spellings)} spellings")
    for number in range(10):
        field.put(f"v{number}", field.lab.repository({"a.bin": os.urandom(16 * _MEBIBYTE)}).url)
    field.until_all_say("FileNotFound", "LimitExceeded")
    used = sum(path.stat().st_size for path in field.state.rglob("*") if path.is_file())
    items = field.lab.admin.call("GET", field.mine.path("").rstrip("/")).ok()["items"]
    over = sum(_reason(item) == "LimitExceeded" for item in items)
    assert over
    field.notes.append(f"{over} of 10 repositories of 16 MiB refused; {used // _MEBIBYTE} MiB on the volume")


def _clones(state: Path) -> list[Path]:
    return [path.parent for path in state.rglob("objects") if path.is_dir()]


def _mac(field: Field) -> None:
    """A7: files whose MAC covers encrypted values only, changed without the key, where the operator refuses such."""
    encrypted = field.lab.encrypt_mac_only(json.dumps(secret("mac", a="b")))
    changed = encrypted.replace(b"name: mac", b"name: other")
    assert changed != encrypted
    url = field.lab.repository({f"{number}.yaml": changed for number in range(40)}).url
    for number in range(40):
        field.put(f"d{number}", url, fileToDecrypt=f"{number}.yaml")
    field.until_all_say("MacOnlyEncrypted")
    assert field.mine.object(field.mine.secret_path("other")) is None


def _scan(field: Field) -> None:
    """A8: 100 Decryptors at metadata, link-local and unspecified addresses, and numbers written oddly."""
    hosts = ("169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]", "[fd00:ec2::254]", "0x7f.1", "2130706433", "127.1")  # noqa: S104
    for number in range(100):
        field.put(f"d{number}", f"http://{hosts[number % len(hosts)]}:{1 + number}/x.git")
    field.until_all_say("AddressNotAllowed", "InvalidUrl")


def _forged(field: Field) -> None:
    """A9: inventories that name another tenant's objects, and a Miwen that starts with them."""
    lab, mine, theirs = field.lab, field.mine, field.theirs
    repository = lab.repository({"secret.enc.yaml": lab.encrypt(listed(secret("own", a="b")))})
    field.put("forger", repository.url)
    until("it is there", lambda: mine.data("own") == {"a": "b"}, on_failure=lambda: mine.status("forger"))
    lab.secret(theirs.namespace, "victim", a="theirs")
    before = theirs.existing(theirs.secret_path("victim"))
    inventory = mine.status("forger")["inventory"]
    [own] = inventory
    forged = [{**own, "namespace": theirs.namespace, "name": name} for name in ("victim", "app")]
    forged += [{**own, "namespace": theirs.namespace, "name": f"n{number}"} for number in range(500)]

    def forge() -> None:
        status = {"status": {"inventory": [*forged, own]}}
        lab.admin.call("PATCH", f"{mine.path('forger')}/status", status, MERGE).ok()

    field.restart(forge)
    mine.commit(repository, secret("own", a="c"))
    until(
        "nothing of another's is in the inventory",
        lambda: [each["name"] for each in mine.status("forger")["inventory"]] == ["own"],
        on_failure=lambda: mine.status("forger"),
        seconds=_PATIENCE_SECONDS,
    )
    assert theirs.existing(theirs.secret_path("victim")) == before
    field.notes.append(f"{len(forged)} forged entries, none taken")


def _names(field: Field) -> None:
    """A10: 40 encrypted files whose names and kinds are values that can be none."""
    canary = "Canary value that is no name"
    wrong = (secret(canary, a="b"), {**secret("x", a="b"), "kind": canary}, secret("x", canary, a="b"))
    files = {f"{number}.yaml": field.lab.encrypt(listed(wrong[number % 3])) for number in range(40)}
    url = field.lab.repository(files).url
    for number in range(40):
        field.put(f"d{number}", url, fileToDecrypt=f"{number}.yaml")
    field.until_all_say("NotAKubernetesObject")
    items = json.dumps(field.lab.admin.call("GET", field.mine.path("").rstrip("/")).ok()["items"])
    assert canary not in items + field.lab.logs()


ATTACKS: dict[str, Callable[[Field], None]] = {
    "own-objects": _own_objects,
    "strangers": _strangers,
    "dripping": _dripping,
    "volume": _volume,
    "mac-only": _mac,
    "scan": _scan,
    "forged-inventory": _forged,
    "names": _names,
}


@attrs.define
class Services:
    """Both services, as deploy/ ships them but for their address and volumes."""

    lab: Lab
    tls: TlsPair
    state: Path
    of_krapao: MemoryGroup
    of_miwen: MemoryGroup
    address: str = ""
    krapao: Service | None = None
    miwen: Service | None = None

    def start_krapao(self) -> None:
        more = ("--state-dir", self.state, "--max-tenant-store", str(_STORE_MEBIBYTES))
        self.krapao, self.address = self.lab.start_krapao_on_tcp(self.tls, *more, name="bench", group=self.of_krapao)

    def start_miwen(self) -> None:
        self.miwen = self.lab.start(
            *("miwen", "--krapao", self.address, "--tls-dir", self.tls.miwen),
            *("--kubeconfig", self.lab.service_account_kubeconfig("jiemi", "miwen"), "--interval", "1s"),
            *("--require-full-mac", "--log-format", "json"),
            group=self.of_miwen,
        )

    def restart_miwen(self, meanwhile: Callable[[], None]) -> None:
        assert self.miwen is not None
        self.miwen.end()
        meanwhile()
        self.start_miwen()

    def require_well(self) -> None:
        for service, group in ((self.krapao, self.of_krapao), (self.miwen, self.of_miwen)):
            assert service is not None
            assert service.process.poll() is None, service.log_text()[-3_000:]
            assert group.kills == 0


@contextlib.contextmanager
def open_field() -> Iterator[tuple[Field, Services, Honest]]:
    with (
        open_lab() as (lab, _),
        # On a disk: what is on a tmpfs counts as its writer's memory.
        tempfile.TemporaryDirectory(prefix="jiemi-bench-", dir="/var/tmp") as volume,
        memory_group(shipped_limit_bytes("repository.yaml")) as of_krapao,
        memory_group(shipped_limit_bytes("miwen.yaml")) as of_miwen,
    ):
        for manifest in read_kustomization(DEPLOY):
            lab.admin.apply(manifest).ok()
        services = Services(lab, tls_pair(lab.folder), Path(volume) / "state", of_krapao, of_miwen)
        services.start_krapao()
        services.start_miwen()
        mine, theirs = (Scene(lab, lab.namespace(name)) for name in ("attacker", "honest"))
        repository, _ = theirs.follow("app", secret("app", value="push-0"))
        field = Field(
            lab, mine, theirs, services.address, services.state, services.tls.authority, services.restart_miwen
        )
        honest = Honest(theirs, repository)
        try:
            with honest.pushing():
                yield field, services, honest
        finally:
            lab.end_services()


def _forget(field: Field) -> None:
    for item in field.lab.admin.call("GET", field.mine.path("").rstrip("/")).ok()["items"]:
        field.lab.admin.call("DELETE", field.mine.path(item["metadata"]["name"])).ok()
    until(
        "they are gone",
        lambda: not field.lab.admin.call("GET", field.mine.path("").rstrip("/")).ok()["items"],
        seconds=_PATIENCE_SECONDS,
    )


def main() -> None:
    chosen = sys.argv[1:] or list(ATTACKS)
    if unknown := [name for name in chosen if name not in ATTACKS]:
        sys.exit(f"bench-attacks: there is no attack {unknown[0]}; there are: {', '.join(ATTACKS)}")
    # The strangers' clients would log each refusal.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(
        f"{'attack':18} {'refused s':>9} {'push s':>7} {'longest':>7} {'pushes':>6} {'Krapao MiB':>10} {'Miwen MiB':>9}"
    )
    with open_field() as (field, services, honest):

        def row(name: str, attack: Callable[[Field], None]) -> None:
            honest.took.clear()
            field.notes.clear()
            began = time.monotonic()
            attack(field)
            seconds = time.monotonic() - began
            count = len(honest.took)
            # The push that was under way then counts too.
            until("an honest push", lambda: honest.error or len(honest.took) > count, seconds=_PATIENCE_SECONDS)
            if honest.error is not None:
                raise honest.error
            services.require_well()
            peaks = (group.peak_bytes // _MEBIBYTE for group in (services.of_krapao, services.of_miwen))
            pushes = tuple(honest.took)
            print(
                f"{name:18} {seconds:9.1f} {statistics.median(pushes):7.2f} {max(pushes):7.2f} {len(pushes):6}"
                f" {next(peaks):10} {next(peaks):9}  {'; '.join(field.notes)}",
                flush=True,
            )
            _forget(field)

        row("(none)", lambda _: time.sleep(15))
        for name in chosen:
            row(name, ATTACKS[name])


if __name__ == "__main__":
    main()
