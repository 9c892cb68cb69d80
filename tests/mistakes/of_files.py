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


def _odd_line(bench: Bench) -> None:
    bench.put("a.env", "A=b\nthe canary\n")
    bench.only_files(f"{bench.name}/*")
    bench.spec["target"] = {"name": bench.name}


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


def _mac_by_hand(bench: Bench) -> None:
    content = bench.encrypt(_SECRET.replace("{app}", bench.name))
    bench.put("secret.enc.yaml", re.sub(rb"\n    mac: [^\n]*", b"\n    mac: x", content))


def _lfs_pointer(bench: Bench) -> None:
    bench.put("secret.enc.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n")


def _joined_without_a_line(bench: Bench) -> None:
    bench.put("secret.enc.yaml", b"".join(bench.encrypt(_SECRET.replace("{app}", name)) for name in ("one", "two")))


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
    Mistake(
        "not-encrypted",
        "The file was committed in clear.",
        "NotEncrypted",
        "{app}/secret.enc.yaml: the file has no sops block: it is not encrypted with sops. Encrypt it with `sops "
        "encrypt --in-place FILE`, or correct the path.",
        _not_encrypted,
    ),
    Mistake(
        "block-lost",
        "The `sops` block was lost in a merge.",
        "NotEncrypted",
        "{app}/secret.enc.yaml: it has encrypted values but no SOPS metadata. Restore the `sops` block from "
        "the last good commit, or encrypt the values again; if the ciphertext itself is meant, set "
        'metadata.annotations.jiemi.cr/ciphertext: keep. If it is no manifest, put "{app}/secret.enc.yaml" '
        "into spec.source.exclude.",
        _block_lost,
    ),
    Mistake(
        "changed-by-hand",
        "A value was changed without sops.",
        "MacMismatch",
        "{app}/secret.enc.yaml: the file's MAC does not match its content: it was changed without sops. Edit the file "
        "with `sops edit FILE` only. Restore the last good commit if nobody on your team made this change.",
        _value_changed,
    ),
    Mistake(
        "mac-lost",
        "The line `mac` was lost in a merge.",
        "MacMismatch",
        "{app}/secret.enc.yaml: the file's sops block has no MAC, so nothing shows that the file is as it was "
        "encrypted. Restore the line `mac` of the sops block from the last good commit.",
        _mac_lost,
    ),
    Mistake(
        "mac-by-hand",
        "`mac` was written by hand.",
        "MacMismatch",
        "{app}/secret.enc.yaml: the file's sops block has a mac that sops did not write, so nothing shows that the "
        "file is as it was encrypted. Restore the line `mac` of the sops block from the last good commit.",
        _mac_by_hand,
    ),
    Mistake(
        "joined-without-line",
        "Two encrypted files were joined, without `---`.",
        "UnknownFormat",
        "{app}/secret.enc.yaml: two encrypted files follow one another in it with no line --- between them: line 28 "
        "begins the sops block of the second. Put a line --- between the two, or keep them in two files.",
        _joined_without_a_line,
    ),
    Mistake(
        "lfs-pointer",
        "The file is kept in Git LFS.",
        "NotEncrypted",
        "{app}/secret.enc.yaml: the file is a pointer of Git LFS, and none that sops has encrypted. Take the file out "
        "of LFS (`git lfs untrack`) and commit it again: Jiemi reads what is in git alone.",
        _lfs_pointer,
    ),
    Mistake(
        "git-conflict",
        "A conflict of git's was committed.",
        "UnknownFormat",
        "{app}/secret.enc.yaml: the encrypted file holds a conflict of git's, from line 1 on. Take one side of "
        "the conflict whole, and change that with `sops edit FILE`.",
        _conflict,
    ),
    Mistake(
        "tab-in-encrypted",
        "A tab came into the encrypted file.",
        "UnknownFormat",
        "{app}/secret.enc.yaml: the encrypted file is no YAML: line 6 is indented by a tab. Restore the file "
        "from the last good commit, and change it with `sops edit FILE` only.",
        _tab,
    ),
    Mistake(
        "dotenv-windows",
        "git gave the .env line ends of Windows.",
        "DecryptionFailed",
        "{app}/app.env: the file's sops block is damaged: its lines end in Windows' way (CR LF), and sops takes "
        "the carriage return for a part of each value. Give the file line ends of Unix (`dos2unix FILE`), and "
        "keep them by `*.env text eol=lf` in .gitattributes.",
        _windows,
    ),
    Mistake(
        "other-ending",
        "The file was renamed after it was encrypted.",
        "UnknownFormat",
        "{app}/values.yaml.enc: nothing tells the file's format, so it counts as bytes, but sops has "
        "encrypted it as yaml. State yaml in spec.source.format, or give the file the ending .yaml or .yml.",
        _other_ending,
    ),
)

FORMS = (
    Mistake(
        "capitals",
        "The ending is in capitals.",
        "UnknownFormat",
        "{app}/SECRET.YAML ends in .YAML: sops and Jiemi know formats by endings in lower case only, so it "
        "counts as bytes, which hold no Kubernetes objects. Rename it to .yaml and encrypt it again, or give "
        "spec.target; or state in spec.source.format with which --input-type it was encrypted.",
        _capitals,
    ),
    Mistake(
        "dotenv-no-target",
        "A .env without `target`.",
        "UnknownFormat",
        "{app}/app.env ends in none of .yaml, .yml and .json, so its name does not say that it holds "
        "Kubernetes objects. State yaml or json in spec.source.format if it does, or give spec.target to "
        "make a Secret or ConfigMap of it.",
        _dotenv_without_target,
    ),
    Mistake(
        "values-no-target",
        "Values of an application without `target`.",
        "NotAKubernetesObject",
        "document 1 of {app}/secret.enc.yaml has no apiVersion and no kind. Add both, and metadata.name; or set "
        "spec.target, which makes a Secret or ConfigMap of what the file holds.",
        _sealed({"user": "app", "password": "canary"}),
    ),
    Mistake(
        "target-of-objects",
        "`target` beside a manifest.",
        "UnknownFormat",
        "{app}/secret.enc.yaml holds Kubernetes objects (apiVersion and kind), and spec.target would make values "
        "of its fields. Take spec.target out: what the file describes is applied as it is. To keep the file "
        "itself in a key, set spec.target.key.",
        _target_of_objects,
    ),
    Mistake(
        "target-nested",
        "`target` for values in groups.",
        "UnknownFormat",
        "{app}/secret.enc.yaml: the value of db is no text but a mapping. Write it as a text, or set "
        "spec.target.key to keep the file whole under one key.",
        _sealed({"db": {"password": "canary"}}, target={"name": "target-nested"}),
    ),
    Mistake(
        "one-key-twice",
        "Two files give the same key of a target.",
        "DuplicateObject",
        "2 of 2 files were not applied, the first: {app}/a.env and {app}/b.env both give the key A of Secret "
        "{app}. Take the key out of one of the two, or that file out of spec.source.files by exclude.",
        _two_files_of_one_key,
    ),
    Mistake(
        "no-object",
        "The file holds comments only.",
        "NothingToApply",
        "{app}/objects.yaml holds no object; what was applied stays. Commit an object, or set spec.allowEmpty if "
        "it is meant.",
        _empty,
    ),
    Mistake(
        "plain-tab",
        "A tab in a plain manifest.",
        "UnknownFormat",
        "{app}/a.yaml: document 1, line 6: a tab in its indentation. Indent it by spaces: YAML allows no "
        'tabs there. If it is no manifest, put "{app}/a.yaml" into spec.source.exclude.',
        _plain("a.yaml", _SECRET.replace("  greeting", "\tgreeting")),
    ),
    Mistake(
        "plain-twice",
        "A key twice in a plain manifest.",
        "UnknownFormat",
        "{app}/a.yaml: document 1, line 7: the same key twice in one mapping. Take one of the two out; "
        'kubectl would take the last. If it is no manifest, put "{app}/a.yaml" into spec.source.exclude.',
        _plain("a.yaml", _SECRET + "kind: Secret\n"),
    ),
    Mistake(
        "plain-template",
        "A template of Helm's among the manifests.",
        "UnknownFormat",
        "{app}/a.yaml: document 1, line 4: {{{{ of a template, which Helm or another tool fills in and Jiemi does not. "
        "Commit the manifest that comes out, or put a value that holds {{{{ in quotes. If it is no manifest, put "
        '"{app}/a.yaml" into spec.source.exclude.',
        _plain("a.yaml", _SECRET.replace("{app}", "{{ .Release.Name }}")),
    ),
    Mistake(
        "plain-env",
        "A .env with a line that is none.",
        "UnknownFormat",
        "{app}/a.env: line 2 of the file is neither NAME=VALUE nor a comment. Write a value of several lines "
        'with \\n for each line break, and a comment with # before it. If it is no manifest, put "*.env" into '
        "spec.source.exclude.",
        _odd_line,
    ),
    Mistake(
        "plain-conflict",
        "A conflict of git's in a plain manifest.",
        "UnknownFormat",
        "{app}/a.yaml: document 1, line 2: a conflict of git's is left in it. Resolve the conflict, and "
        'commit the file. If it is no manifest, put "{app}/a.yaml" into spec.source.exclude.',
        _plain("a.yaml", _SECRET.replace("kind", "<<<<<<< HEAD\nkind")),
    ),
)
