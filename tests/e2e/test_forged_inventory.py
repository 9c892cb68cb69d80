"""A tenant who may write the status of his Decryptor forges its inventory while Miwen is away.

Everything is real: the API server with RBAC, the status subresource, a Miwen process with the rights of deploy/ that is
stopped and started again. What a status claims of another's objects is believed by nobody, and what the Decryptor
really has is looked after as ever.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, Service, until
from support.e2e.scene import MERGE, Scene, condition, config_map, forget_decryptors, secret
from support.kubernetes.api_server import ApiServer

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.api.fields import unstructure
from jiemi.core.objects.identity import NAME_LABEL, NAMESPACE_LABEL

pytestmark = pytest.mark.e2e

RBAC = "rbac.authorization.k8s.io"
FILE = "secret.enc.yaml"


@attrs.define
class Forgery:
    """Two tenants of one Miwen.

    Attributes:
        mine: the forger's namespace; theirs: the other one's.
        tenant: the API server as the forger, who may write Decryptors and their status in his namespace only.
        address: Krapao's.
        miwen: the process that runs now.
    """

    mine: Scene
    theirs: Scene
    tenant: ApiServer
    address: str
    miwen: Service

    def forge(self, name: str, entries: Sequence[InventoryEntry]) -> None:
        """Put entries before those that the inventory has, through the status subresource, as the tenant."""
        own = self.mine.status(name)["inventory"]
        forged = {"status": {"inventory": [*(unstructure(each) for each in entries), *own]}}
        self.tenant.call("PATCH", f"{self.mine.path(name)}/status", forged, MERGE).ok()
        assert len(self.mine.status(name)["inventory"]) == len(own) + len(entries)

    def start(self, *flags: str) -> None:
        lab = self.mine.lab
        kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
        self.miwen = lab.start(
            "miwen", "--krapao", self.address, "--kubeconfig", kubeconfig, "--interval", "1s", *flags
        )


@pytest.fixture(scope="module")
def forgery(lab: Lab, installed: ApiServer) -> Iterator[Forgery]:
    forget_decryptors(lab)
    mine, theirs = Scene(lab, lab.namespace("e2e-forged-mine")), Scene(lab, lab.namespace("e2e-forged-theirs"))
    place = {"namespace": mine.namespace, "name": "tenant"}
    installed.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place}).ok()
    rules = [{"apiGroups": ["jiemi.cr"], "resources": ["decryptors", "decryptors/status"], "verbs": ["*"]}]
    installed.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": place, "rules": rules}).ok()
    installed.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "tenant"},
            "subjects": [{"kind": "ServiceAccount", **place}],
        }
    ).ok()
    tenant = installed.service_account(mine.namespace, "tenant")
    until("the binding holds", lambda: tenant.may("patch", "jiemi.cr", "decryptors/status", mine.namespace))
    assert not tenant.may("get", "", "secrets", theirs.namespace)
    assert not tenant.may("delete", "", "secrets", theirs.namespace)
    _, address = lab.start_krapao(name="forged")
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    miwen = lab.start("miwen", "--krapao", address, "--kubeconfig", kubeconfig, "--interval", "1s")
    yield Forgery(mine, theirs, tenant, address, miwen)
    lab.end_services()


def entries_of(namespace: str, *objects: tuple[str, str], file: str, revision: str) -> list[InventoryEntry]:
    """Entries as of objects that were applied."""
    return [InventoryEntry("v1", kind, name, namespace, file, 5, revision=revision) for kind, name in objects]


def _mine(forgery: Forgery, name: str, **spec: Any) -> tuple[Repository, str]:
    keep, leaves = secret(f"{name}-keep", a="one"), secret(f"{name}-leaves", a="one")
    return forgery.mine.follow(name, keep, leaves, prune=True, deletionPolicy="Delete", force=True, **spec)


@pytest.mark.parametrize(
    ("file", "ended_by", "flags"),
    [
        (FILE, signal.SIGTERM, ()),
        ("", signal.SIGKILL, ()),
        (FILE, signal.SIGKILL, ("--no-cross-namespace",)),
    ],
    ids=["as if a file described them", "as if they had left the files", "--no-cross-namespace"],
)
def test_it_takes_changes_and_deletes_nothing_of_another_and_what_is_owned_is_still_pruned(
    forgery: Forgery, file: str, ended_by: signal.Signals, flags: tuple[str, ...]
) -> None:
    mine, theirs = forgery.mine, forgery.theirs
    name = f"f{'-file' if file else ''}-{ended_by.name.lower()}{'-own' if flags else ''}"
    victim = f"v-{name}"
    repository, revision = _mine(forgery, name)
    their_repository, _ = theirs.follow(victim, secret(victim, a="theirs"))
    # Nobody's, and one that another Miwen's Decryptor has by its labels.
    labels = {NAME_LABEL: "another", NAMESPACE_LABEL: "elsewhere"}
    plain, labelled = (
        config_map(f"{name}-plain", theirs.namespace, a="b"),
        secret(f"{name}-other", theirs.namespace, a="b"),
    )
    labelled["metadata"]["labels"] = labels
    for manifest in (plain, labelled):
        mine.lab.admin.apply(manifest).ok()
    objects = [("ConfigMap", f"{name}-plain"), ("Secret", f"{name}-other"), ("Secret", victim)]
    paths = [theirs.config_path(f"{name}-plain"), theirs.secret_path(f"{name}-other"), theirs.secret_path(victim)]

    forgery.miwen.end(ended_by)
    before = [mine.object(path) for path in paths]
    assert None not in before
    forgery.forge(name, entries_of(theirs.namespace, *objects, file=file, revision=revision))
    forgery.start(*flags)

    # What really left is pruned, and by then everything forged was looked at too.
    revision = mine.commit(repository, secret(f"{name}-keep", a="two"))
    mine.until_settled(name, revision)
    until("what left git is pruned", lambda: mine.object(mine.secret_path(f"{name}-leaves")) is None)
    assert mine.data(f"{name}-keep") == {"a": "two"}
    inventory = until(
        "nothing of another's is in the inventory",
        lambda: [each["name"] for each in mine.status(name)["inventory"]] == [f"{name}-keep"],
        on_failure=lambda: mine.status(name),
    )
    assert inventory
    assert [mine.object(path) for path in paths] == before

    # Whose it is has it still: what others change is put right, and it is followed.
    theirs.write(theirs.secret_path(victim), {"stringData": {"a": "hacked"}})
    until("it is put right", lambda: theirs.data(victim) == {"a": "theirs"}, on_failure=lambda: theirs.status(victim))
    theirs.until_settled(victim, theirs.commit(their_repository, secret(victim, a="new")))
    assert theirs.data(victim) == {"a": "new"}

    # Nor does it go with the forger's Decryptor, which is told once more that it had all of it.
    before = [mine.object(path) for path in paths]
    forgery.miwen.end(ended_by)
    forgery.forge(name, entries_of(theirs.namespace, *objects, file=file, revision=revision))
    forgery.tenant.call("DELETE", mine.path(name)).ok()
    forgery.start(*flags)
    until("it is gone", lambda: mine.object(mine.path(name)) is None, on_failure=forgery.miwen.log_text)
    assert mine.object(mine.secret_path(f"{name}-keep")) is None
    assert [mine.object(path) for path in paths] == before
    theirs.delete_decryptor(victim)


def test_it_does_not_get_an_object_that_its_files_describe_and_another_has(forgery: Forgery) -> None:
    mine, theirs = forgery.mine, forgery.theirs
    theirs.follow("v-claim", secret("v-claim", a="theirs"))
    repository, revision = _mine(forgery, "claim")
    forgery.miwen.end()
    before = theirs.object(theirs.secret_path("v-claim"))
    forged = entries_of(theirs.namespace, ("Secret", "v-claim"), file=FILE, revision=revision)
    forgery.forge("claim", forged)
    mine.commit(repository, secret("claim-keep", a="one"), secret("v-claim", theirs.namespace, a="forged"))
    forgery.start()
    status = mine.lab.until_reason(mine.namespace, "claim", "ObjectClaimed")
    assert "e2e-forged-theirs/v-claim" in condition(status, "Ready")["message"]
    assert theirs.object(theirs.secret_path("v-claim")) == before
    theirs.until_condition("v-claim", "Ready", "True", "Synced")
    for scene, name in ((mine, "claim"), (theirs, "v-claim")):
        scene.delete_decryptor(name)
