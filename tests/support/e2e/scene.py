"""What the end-to-end tests of reconciling share: Decryptors with more in their spec, other writers, Events."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import attrs
from support.e2e.lab import Lab, Repository, Service, until

from jiemi.core.objects.identity import NAME_LABEL, NAMESPACE_LABEL

MERGE = "application/merge-patch+json"


def secret(name: str, namespace: str | None = None, **values: str) -> dict[str, Any]:
    """A Secret as a manifest."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def config_map(name: str, namespace: str | None = None, **values: str) -> dict[str, Any]:
    """A ConfigMap as a manifest."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": values}


def deployment(name: str, image: str = "example.org/app:1", **more: Any) -> dict[str, Any]:
    """A Deployment of one container as a manifest."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
            **more,
        },
    }


def listed(*manifests: Mapping[str, Any]) -> str:
    """Manifests as one JSON document."""
    if len(manifests) == 1:
        return json.dumps(manifests[0])
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The condition of that type; empty where there is none."""
    return next((each for each in status.get("conditions", ()) if each["type"] == kind), {})


@attrs.frozen
class Scene:
    """A namespace of a lab that a Miwen follows."""

    lab: Lab
    namespace: str

    # --- Decryptors

    def path(self, name: str) -> str:
        return f"/apis/jiemi.cr/v1alpha1/namespaces/{self.namespace}/decryptors/{name}"

    def commit(self, repository: Repository, *manifests: Mapping[str, Any], file: str = "secret.enc.yaml") -> str:
        """Commit one encrypted file with those objects."""
        return repository.commit({file: self.lab.encrypt(listed(*manifests))})

    def decryptor(self, name: str, url: str, **spec: Any) -> dict[str, Any]:
        """A Decryptor for the lab's age key. It is not applied here.

        Args:
            spec: what is put into its spec; of `source` and `ref` what is put into those parts.
        """
        manifest = self.lab.decryptor(
            self.namespace,
            name,
            url,
            source=spec.pop("source", None),
            repository={"ref": spec.pop("ref")} if spec.get("ref") else None,
        )
        spec.pop("ref", None)
        manifest["spec"] |= spec
        return manifest

    def put(self, name: str, url: str, **spec: Any) -> None:
        """Apply a Decryptor; whatever an earlier one of the name had and is not given now is taken out."""
        self.lab.admin.apply(self.decryptor(name, url, **spec)).ok()

    def follow(self, name: str, *manifests: Mapping[str, Any], **spec: Any) -> tuple[Repository, str]:
        """A repository with one encrypted file, and a Decryptor of it that is in sync."""
        repository = self.lab.repository()
        revision = self.commit(repository, *manifests)
        self.put(name, repository.url, **spec)
        self.until_settled(name, revision)
        return repository, revision

    def until_settled(self, name: str, revision: str) -> dict[str, Any]:
        """Until a revision is deployed for the newest spec, and nothing is under way."""

        def check() -> dict[str, Any] | None:
            found = self.get(name)
            status = found.get("status") or {}
            current = (status.get("current") or {}).get("revision")
            is_settled = (
                current == revision
                and status.get("observedGeneration") == found["metadata"]["generation"]
                and condition(status, "Ready").get("status") == "True"
                and not condition(status, "Reconciling")
            )
            return status if is_settled else None

        found: dict[str, Any] = until(f"{name} settled", check, on_failure=lambda: self.lab._why(self.namespace, name))
        return found

    def until_condition(self, name: str, kind: str, status: str, reason: str, *, seconds: float = 40) -> dict[str, Any]:
        """Until a condition is like that; returns it."""

        def check() -> dict[str, Any] | None:
            found = condition(self.status(name), kind)
            return found if (found.get("status"), found.get("reason")) == (status, reason) else None

        what = f"{name} has {kind}={status} for {reason}"
        found: dict[str, Any] = until(
            what, check, seconds=seconds, on_failure=lambda: self.lab._why(self.namespace, name)
        )
        return found

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.admin.call("GET", self.path(name)).ok()
        return found

    def status(self, name: str) -> dict[str, Any]:
        return self.lab.status(self.namespace, name)

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        return condition(self.status(name), kind)

    def annotate(self, name: str, **annotations: str | None) -> None:
        """Annotations of jiemi.cr/: reconcile_at is jiemi.cr/reconcile-at."""
        values = {f"jiemi.cr/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.lab.admin.call("PATCH", self.path(name), {"metadata": {"annotations": values}}, MERGE).ok()

    def delete_decryptor(self, name: str) -> None:
        self.lab.admin.call("DELETE", self.path(name))
        until(f"{name} is gone", lambda: self.lab.admin.call("GET", self.path(name)).status == 404)

    # --- objects

    def secret_path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{name}"

    def config_path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps/{name}"

    def deployment_path(self, name: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}"

    def object(self, path: str) -> dict[str, Any] | None:
        """What is at that path, or None."""
        found = self.lab.admin.call("GET", path)
        return found.body if found.status == 200 else None

    def existing(self, path: str) -> dict[str, Any]:
        """What is at that path, where there is something."""
        found = self.object(path)
        assert found is not None, path
        return found

    def data(self, name: str) -> dict[str, str]:
        return self.lab.data(self.namespace, name)

    def write(self, path: str, patch: Mapping[str, Any], *, manager: str = "intruder") -> None:
        """Change an object as another field manager does, with `kubectl patch`'s kind of write."""
        self.lab.admin.call("PATCH", f"{path}?fieldManager={manager}", dict(patch), MERGE).ok()

    def is_labelled(self, path: str, decryptor: str) -> bool:
        """Whether an object is there and says that it is the Decryptor's."""
        labels = (self.object(path) or {}).get("metadata", {}).get("labels", {})
        return (labels.get(NAMESPACE_LABEL), labels.get(NAME_LABEL)) == (self.namespace, decryptor)

    # --- Events

    def events(self, name: str, *reasons: str) -> list[dict[str, Any]]:
        """The Events about a Decryptor, in their order; of these reasons, if some are given."""
        items = self.lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events").ok()["items"]
        about = [each for each in items if _regarding(each) == ("Decryptor", name)]
        about.sort(key=lambda each: each["metadata"]["name"])
        return [each for each in about if not reasons or each["reason"] in reasons]

    def notes(self, name: str, *reasons: str) -> list[str]:
        """What the Events say, each with its reason."""
        return [f"{each['reason']}: {each['note']}" for each in self.events(name, *reasons)]

    def until_event(self, name: str, reason: str, *words: str, seconds: float = 20) -> dict[str, Any]:
        """Until there is an Event of that reason whose note has all the words."""

        def check() -> dict[str, Any] | None:
            found = [each for each in self.events(name, reason) if all(word in each["note"] for word in words)]
            return found[-1] if found else None

        what = f"an Event {reason} about {name} with {words}"
        event: dict[str, Any] = until(what, check, seconds=seconds, on_failure=lambda: self.notes(name))
        return event


def _regarding(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["regarding"]["kind"], event["regarding"]["name"]


METRICS = ("--metrics-listen", "127.0.0.1:0")
"""What makes a service serve metrics; `samples` reads them."""

_LISTENING = re.compile(r'"address": "tcp:127\.0\.0\.1:(\d+)", "path": "/metrics"')


def metrics_page(service: Service) -> str:
    """The metrics of a service that was started with `METRICS`."""
    found = until("metrics are served", lambda: _LISTENING.search(service.log_text()), on_failure=service.log_text)
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=10) as page:
        text: str = page.read().decode()
        return text


def seconds_until(what: str, check: Any, *, seconds: float = 20) -> float:
    """How long a check takes to come true, looked at as often as the API server answers."""
    began = time.monotonic()
    while not check():
        took = time.monotonic() - began
        assert took < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began


def forget_decryptors(lab: Lab) -> None:
    """Delete what other modules left, for a Miwen that looks at all namespaces."""
    path = "/apis/jiemi.cr/v1alpha1/decryptors"
    found = until("Decryptors can be listed", lambda: (answer := lab.admin.call("GET", path)).status == 200 and answer)
    for item in found.body["items"]:
        left, name = Scene(lab, item["metadata"]["namespace"]), item["metadata"]["name"]
        lab.admin.call("PATCH", left.path(name), {"metadata": {"finalizers": None}}, MERGE).ok()
        lab.admin.call("DELETE", left.path(name))
    until("they are gone", lambda: not lab.admin.call("GET", path).ok()["items"])
