"""What the end-to-end tests of files, applying and pruning share: a repository with the Decryptor that follows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from support.e2e.lab import Lab, Repository, until
from support.e2e.scene import Scene, condition

Json = Mapping[str, Any]


@attrs.frozen
class Project(Scene):
    """A repository, and the Decryptor of all its `*.yaml` that follows it, where nothing else is said.

    Attributes:
        name: the Decryptor's.
    """

    name: str
    repository: Repository

    # --- the repository

    def push(self, **files: Any) -> str:
        """Commit files of objects, in plain text: `push(a=[secret("x")])` is a.yaml; None removes one."""
        return self.push_files({f"{name}.yaml": content for name, content in files.items()})

    def push_files(self, files: Mapping[str, Any]) -> str:
        """Commit files by their paths, in plain text: bytes, or objects; None removes one. Returns the revision."""
        return self.repository.commit({path: _content(each) for path, each in files.items()})

    # --- the Decryptor

    def manifest(self, *files: str, **spec: Any) -> dict[str, Any]:
        """The Decryptor; of `source` what is put into that part."""
        source = {"files": list(files) or ["*.yaml"], **spec.pop("source", {})}
        made = self.lab.decryptor(self.namespace, self.name, self.repository.url, source=source)
        if "fileToDecrypt" not in source:
            del made["spec"]["source"]["fileToDecrypt"]
        made["spec"] |= spec
        return made

    def set(self, *files: str, **spec: Any) -> None:
        """Apply the Decryptor; what an earlier one had and is not given now is taken out."""
        self.lab.admin.apply(self.manifest(*files, **spec)).ok()

    def synced(self, revision: str) -> dict[str, Any]:
        """Until that revision is deployed for the newest spec; the status."""
        return self.until_settled(self.name, revision)

    def says(self, reason: str, *words: str) -> dict[str, Any]:
        """Until the Decryptor is not ready for that reason, in these words, for its newest spec; the status."""

        def check() -> dict[str, Any] | None:
            found = self.get(self.name)
            status = found.get("status") or {}
            ready = condition(status, "Ready")
            is_said = (
                (ready.get("status"), ready.get("reason")) == ("False", reason)
                and status.get("observedGeneration") == found["metadata"]["generation"]
                and all(word in ready["message"] for word in words)
            )
            return status if is_said else None

        found: dict[str, Any] = until(
            f"{self.name} says {reason} with {words}",
            check,
            on_failure=lambda: self.lab._why(self.namespace, self.name),
        )
        assert found["current"]["status"] == "NotSync"
        return found

    def is_ready(self) -> bool:
        """Whether the newest spec is deployed, whatever revision."""
        found = self.get(self.name)
        status = found.get("status") or {}
        is_observed = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_observed and condition(status, "Ready").get("status") == "True"

    @property
    def inventory(self) -> list[str]:
        """The objects of the inventory: "Secret team/x a.yaml"."""
        return sorted(_listed(each) for each in self.status(self.name).get("inventory", ()))

    @property
    def files(self) -> list[str]:
        """Paths of the files that are deployed whole."""
        return [each["path"] for each in self.status(self.name).get("files", ()) if each["blob"]]

    # --- the cluster

    def there(self, *names: str) -> list[str]:
        """Which of these Secrets are in the cluster."""
        return [name for name in names if self.object(self.secret_path(name)) is not None]

    def uid(self, path: str) -> str:
        found = self.object(path)
        assert found is not None, path
        return str(found["metadata"]["uid"])


def failures(status: Json) -> dict[str, str]:
    """The reasons of status.failedObjects, by the objects' names."""
    return {each["name"]: each["reason"] for each in status.get("failedObjects", ())}


def project(lab: Lab, namespace: str, name: str) -> Project:
    """A new repository for a Decryptor of that name, which is not applied here."""
    return Project(lab, namespace, name, lab.repository())


def documents(*manifests: Json) -> str:
    """Manifests as the documents of one YAML file (JSON is YAML)."""
    return "".join(f"---\n{json.dumps(each)}\n" for each in manifests)


def _content(content: Any) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    return documents(*content).encode()


def _listed(entry: Json) -> str:
    where = f"{entry['namespace']}/" if entry.get("namespace") else ""
    return f"{entry['kind']} {where}{entry['name']} {entry.get('file', '')}".rstrip()
