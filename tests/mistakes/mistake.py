"""One ordinary mistake: what was done, how it is made here, and what Jiemi says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from support.e2e.lab import Lab, Repository

from jiemi.core.reasons import REASONS

DATA = Path(__file__).parents[1] / "data"

EXAMPLE: Mapping[str, str] = {
    "app": "app",
    "namespace": "team",
    "url": "https://git.example/acme/app.git",
    "host": "git.example",
    "base": "https://git.example",
    "private": "https://git.example/acme/private.git",
    "private_host": "git.example",
    "empty": "https://git.example/acme/empty.git",
    "revision": "3f1c2a9b7d04",
    "age": "age1qx…",
    "stranger": "age1u7…",
    "signed": "9d41e07c22ab",
    "signed by pgp": "9d41e07c22ab",
    "ann": "SHA256:hGm0…",
    "signed long ago": "9d41e07c22ab",
    "old": "5B1C…77E0",
    "bob": "5B1C…77E0",
    "bob subkey": "A02F…914D",
}
"""What stands in the documentation for what differs from run to run."""


@attrs.define
class Bench:
    """What one mistake is made with: a Decryptor of its own, and a folder of its own in the repository of all.

    Attributes:
        name: of the Decryptor, and of its folder.
        spec: the Decryptor's, in order until the mistake changes it.
        files: what is committed, by path from the repository's root.
        words: what the placeholders of the text stand for.
        others: further Decryptors.
        first: further Decryptors that are in sync before this one is there.
    """

    lab: Lab
    namespace: str
    name: str
    repository: Repository
    urls: Mapping[str, str]
    words: Mapping[str, str]
    spec: dict[str, Any] = attrs.field(factory=dict)
    files: dict[str, bytes] = attrs.field(factory=dict)
    symlinks: dict[str, str] = attrs.field(factory=dict)
    others: list[dict[str, Any]] = attrs.field(factory=list)
    first: list[dict[str, Any]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.spec = self.lab.decryptor(
            self.namespace, self.name, self.repository.url, file=self.path("secret.enc.yaml")
        )["spec"]

    def path(self, name: str) -> str:
        """A path in the folder of this mistake."""
        return f"{self.name}/{name}"

    def put(self, name: str, content: bytes | str) -> None:
        """Commit a file as it is."""
        self.files[self.path(name)] = content.encode() if isinstance(content, str) else content

    def encrypt(self, plain: Any, *, name: str = "secret.enc.yaml", more: tuple[str, ...] = ()) -> bytes:
        """A file's content, encrypted for the key that the Decryptor has."""
        text = plain if isinstance(plain, str) else json.dumps(plain)
        return self.lab.encrypt(text, path=name, more=more)

    def seal(self, plain: Any, *, name: str = "secret.enc.yaml", more: tuple[str, ...] = ()) -> None:
        """Commit a file encrypted for the key that the Decryptor has."""
        self.put(name, self.encrypt(plain, name=name, more=more))

    def object(self, kind: str = "Secret", **fields: Any) -> dict[str, Any]:
        """An object of the core group by the Decryptor's name."""
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": self.name}, **fields}

    def good(self) -> None:
        """Commit a Secret that can be applied."""
        self.seal(self.object(stringData={"greeting": "hello"}))

    def key(self, provider: str, field: str = "privateKey", **value: str) -> None:
        """Give the Decryptor this one credential."""
        self.spec["provider"] = {provider: {field: value}}

    def repo(self, **fields: Any) -> None:
        """Change spec.source.repository."""
        self.spec["source"]["repository"].update(fields)

    def only_files(self, *patterns: str) -> None:
        """Name files in place of fileToDecrypt."""
        del self.spec["source"]["fileToDecrypt"]
        self.spec["source"]["files"] = list(patterns)

    def decryptor(self, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A Decryptor of the namespace."""
        return {
            "apiVersion": "jiemi.cr/v1alpha1",
            "kind": "Decryptor",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": dict(spec),
        }

    def in_cluster(self, manifest: Mapping[str, Any]) -> None:
        """Put an object of somebody else's into the cluster."""
        metadata = {"namespace": self.namespace, **manifest["metadata"]}
        self.lab.admin.apply({**manifest, "metadata": metadata}).ok()


@attrs.frozen
class Mistake:
    """A row.

    Attributes:
        name: unique; the Decryptor's name.
        done: what was done, as docs/troubleshooting.md shows it.
        reason: the one that Jiemi gives.
        says: the whole text, what is wrong and what to do, with placeholders in braces.
        make: makes it.
    """

    name: str
    done: str
    reason: str = attrs.field(validator=attrs.validators.in_(REASONS))
    says: str
    make: Callable[[Bench], None]

    def text(self, words: Mapping[str, str]) -> str:
        """What Jiemi says, with the placeholders filled in."""
        return self.says.format_map(words)
