"""Mistakes in the encrypted files, and in plain ones beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mistakes.mistake import Bench, Mistake

_SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {app}\nstringData:\n  greeting: hello\n"


def _plain(name: str, text: str) -> Callable[[Bench], None]:
    """A plain file that a glob meets."""

    def make(bench: Bench) -> None:
        bench.put(name, text.replace("{app}", bench.name))
        bench.only_files(f"{bench.name}/*")

    return make


def _not_encrypted(bench: Bench) -> None:
    bench.put("secret.enc.yaml", _SECRET.replace("{app}", bench.name))


def _block_lost(bench: Bench) -> None:
    content = bench.encrypt(_SECRET.replace("{app}", bench.name))
    bench.put("secret.enc.yaml", content[: content.index(b"\nsops:") + 1])
    bench.only_files(f"{bench.name}/*")


def _value_changed(bench: Bench) -> None:
    content = bench.encrypt(
        bench.object(type="Opaque", stringData={"a": "b"}), more=("--encrypted-regex", "^stringData$")
    )
    bench.put("secret.enc.yaml", content.replace(b"Opaque", b"opaque"))


def _mac_lost(bench: Bench) -> None:
    content = bench.encrypt(_SECRET.replace("{app}", bench.name))
    bench.put("secret.enc.yaml", re.sub(rb"\n    mac: [^\n]*", b"", content))


def _conflict(bench: Bench) -> None:
    content = bench.encrypt(_SECRET.replace("{app}", bench.name)).decode().split("\n")
    ours = ["<<<<<<< HEAD", content[0], "=======", content[0], ">>>>>>> theirs"]
    bench.put("secret.enc.yaml", "\n".join([*ours, *content[1:]]))


def _tab(bench: Bench) -> None:
    content = bench.encrypt(_SECRET.replace("{app}", bench.name)).replace(b"\n    greeting", b"\n\tgreeting")
    bench.put("secret.enc.yaml", content)


def _windows(bench: Bench) -> None:
    content = bench.encrypt("GREETING=hello\n", name="app.env")
    bench.put("app.env", content.replace(b"\n", b"\r\n"))
    bench.spec["source"]["fileToDecrypt"] = bench.path("app.env")
    bench.spec["target"] = {"name": bench.name}


def _other_ending(bench: Bench) -> None:
    content = bench.encrypt(_SECRET.replace("{app}", bench.name))
    bench.put("values.yaml.enc", content)
    bench.spec["source"]["fileToDecrypt"] = bench.path("values.yaml.enc")
    bench.spec["target"] = {"name": bench.name}


def _capitals(bench: Bench) -> None:
    bench.put("SECRET.YAML", b"{}")
    bench.spec["source"]["fileToDecrypt"] = bench.path("SECRET.YAML")


def _dotenv_without_target(bench: Bench) -> None:
    bench.seal("GREETING=hello\n", name="app.env")
    bench.spec["source"]["fileToDecrypt"] = bench.path("app.env")


def _sealed(value: Any, **more: Any) -> Callable[[Bench], None]:
    """An encrypted file, and what else the spec says."""

    def make(bench: Bench) -> None:
        bench.seal(json.loads(json.dumps(value).replace("{app}", bench.name)))
        bench.spec.update(more)

    return make


def _target_of_objects(bench: Bench) -> None:
    bench.good()
    bench.spec["target"] = {"name": bench.name}


def _two_files_of_one_key(bench: Bench) -> None:
    bench.seal("A=one\n", name="a.env")
    bench.seal("A=two\n", name="b.env")
    bench.only_files(f"{bench.name}/*.env")
    bench.spec["target"] = {"name": bench.name}


def _empty(bench: Bench) -> None:
    bench.put("objects.yaml", "# nothing yet\n")
    bench.only_files(f"{bench.name}/*.yaml")


ENCRYPTED = (
    Mistake("not-encrypted", "The file was committed in clear.", "NotEncrypted", "", _not_encrypted),
    Mistake("block-lost", "The `sops` block was lost in a merge.", "NotEncrypted", "", _block_lost),
    Mistake("changed-by-hand", "A value was changed without sops.", "MacMismatch", "", _value_changed),
    Mistake("mac-lost", "The line `mac` was lost in a merge.", "MacMismatch", "", _mac_lost),
    Mistake("conflict", "A conflict of git's was committed.", "UnknownFormat", "", _conflict),
    Mistake("tab-in-encrypted", "A tab came into the encrypted file.", "UnknownFormat", "", _tab),
    Mistake("dotenv-windows", "git gave the .env line ends of Windows.", "DecryptionFailed", "", _windows),
    Mistake("other-ending", "The file was renamed after it was encrypted.", "UnknownFormat", "", _other_ending),
)

FORMS = (
    Mistake("capitals", "The ending is in capitals.", "UnknownFormat", "", _capitals),
    Mistake("dotenv-no-target", "A .env without `target`.", "UnknownFormat", "", _dotenv_without_target),
    Mistake(
        "values-no-target",
        "Values of an application without `target`.",
        "NotAKubernetesObject",
        "",
        _sealed({"user": "app", "password": "canary"}),
    ),
    Mistake("target-of-objects", "`target` beside a manifest.", "UnknownFormat", "", _target_of_objects),
    Mistake(
        "target-nested",
        "`target` for values in groups.",
        "UnknownFormat",
        "",
        _sealed({"db": {"password": "canary"}}, target={"name": "target-nested"}),
    ),
    Mistake("one-key-twice", "Two files give the same key of a target.", "DuplicateObject", "", _two_files_of_one_key),
    Mistake("no-object", "The file holds comments only.", "NothingToApply", "", _empty),
    Mistake(
        "plain-tab",
        "A tab in a plain manifest.",
        "UnknownFormat",
        "",
        _plain("a.yaml", _SECRET.replace("  greeting", "\tgreeting")),
    ),
    Mistake(
        "plain-twice",
        "A key twice in a plain manifest.",
        "UnknownFormat",
        "",
        _plain("a.yaml", _SECRET + "kind: Secret\n"),
    ),
    Mistake("plain-env", "A .env with a line that is none.", "UnknownFormat", "", _plain("a.env", "A=b\nthe canary\n")),
    Mistake(
        "plain-conflict",
        "A conflict of git's in a plain manifest.",
        "UnknownFormat",
        "",
        _plain("a.yaml", _SECRET.replace("kind", "<<<<<<< HEAD\nkind")),
    ),
)
