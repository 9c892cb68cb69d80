"""Files of a Decryptor that allows plain ones: those that are neither, and those that look like the other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import files
from hostile.case import OPENS
from hostile.cases_bombs import laughs
from hostile.cases_repositories import FILE, Entries, Objects, TreeCase
from hostile.lab import Lab

SAMPLES = Path(__file__).parents[1] / "data" / "sops-3.12.2"
"""Files in each format, which the real sops wrote."""

_LOST = "encrypt the values again"
_NOTHING = {"gets": "NotEncrypted", "says": "nothing in it is encrypted"}
_YAML_BLOCK = re.compile(rb"^sops:\n(?:[ \t].*\n|\n)*", re.MULTILINE)


def _case(name: str, tries: str, content: Callable[[Lab], bytes], path: str = "s.yaml", **more: Any) -> TreeCase:
    def tree(objects: Objects, lab: Lab) -> Entries:
        return [(path.encode(), FILE, objects.blob(content(lab)))]

    return TreeCase(name=f"plain-{name}", tries=tries, tree=tree, path=path, allow_plain=True, **more)


def _lost(name: str, tries: str, content: Callable[[Lab], bytes], path: str = "s.yaml") -> TreeCase:
    return _case(name, tries, content, path, gets="NotEncrypted", says=_LOST)


def _sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def _without_block(lab: Lab) -> bytes:
    return files.as_yaml(files.seal_documents([lab.tree], lab.data_key).documents[0])


def _json_without_block(_: Lab) -> bytes:
    tree = json.loads(_sample("all.json"))
    del tree["sops"]
    return json.dumps(tree).encode()


def _binary_without_block(_: Lab) -> bytes:
    return json.dumps({"data": json.loads(_sample("all.bin"))["data"]}).encode()


def _one_value(lab: Lab) -> str:
    sealed: str = files.seal("x", lab.data_key, "a:")
    return sealed


CASES = (
    _lost("yaml-lost", "a YAML file whose block was lost", _without_block),
    _lost(
        "yaml-lost-2", "one that sops wrote, of two documents", lambda _: _YAML_BLOCK.sub(b"", _sample("multi.yaml"))
    ),
    _lost("json-lost", "a JSON file whose block was lost", _json_without_block, "s.json"),
    _lost(
        "dotenv-lost",
        "a dotenv file whose `sops_` variables were lost",
        lambda _: re.sub(rb"^sops_.*\n", b"", _sample("all.env"), flags=re.MULTILINE),
        "s.env",
    ),
    _lost(
        "ini-lost", "an INI file whose `[sops]` was lost", lambda _: _sample("all.ini").partition(b"[sops]")[0], "s.ini"
    ),
    _lost("binary-lost", "a binary file's wrapper whose block was lost", _binary_without_block, "s.bin"),
    _lost("renamed", "a block under another name", lambda lab: lab.file().replace(b'"sops"', b'"sops2"')),
    _lost(
        "indented",
        "a block that is moved below another key",
        lambda lab: files.as_yaml({**json.loads(_json_of(lab)), "a": {"sops": {}}}),
    ),
    _lost(
        "one-value",
        "one encrypted value among plain ones",
        lambda lab: f"a: b\nc: [{{d: '{_one_value(lab)}'}}]".encode(),
    ),
    _lost(
        "escaped",
        "one whose first letter is escaped",
        lambda lab: f'a: "{_one_value(lab).replace("E", chr(92) + "x45", 1)}"'.encode(),
    ),
    _lost("comment", "an encrypted comment", lambda lab: f"#{_one_value(lab)}\na: b\n".encode()),
    _lost("second-document", "one in the second document", lambda lab: f"a: b\n---\nc: {_one_value(lab)}\n".encode()),
    _lost(
        "damaged",
        "a file without its block that is not even YAML",
        lambda lab: _without_block(lab) + b"\n]: [",
    ),
    _case(
        "empty-block",
        "`sops: {}`",
        lambda _: b"a: b\nsops: {}\n",
        gets="NotEncrypted",
        says="nothing in it is encrypted",
    ),
    _case(
        "block-of-text",
        "`sops` as a word",
        lambda _: b"a: b\nsops: hello\n",
        gets="NotEncrypted",
        says="nothing in it is encrypted",
    ),
    _case(
        "json-empty-block",
        '`"sops": {}` in JSON',
        lambda _: b'{"sops": {}}',
        "s.json",
        gets="NotEncrypted",
        says="nothing in it",
    ),
    _case(
        "escaped-block",
        "a block whose name is escaped",
        lambda lab: lab.file().replace(b'"sops"', b'"\\x73ops"'),
        gets=OPENS,
        so="decrypted: sops reads the name too",
    ),
    _case("encrypted", "an encrypted file", lambda lab: lab.file(), gets=OPENS, so="decrypted, as elsewhere"),
    _case(
        "utf-16",
        "an encrypted file in UTF-16",
        lambda lab: lab.file().decode().encode("utf-16"),
        gets=OPENS,
        so="decrypted, as elsewhere",
    ),
    _case(
        "utf-16-plain", "a plain file in UTF-16", lambda _: "a: b\n".encode("utf-16"), gets="NotEncrypted", says="UTF-8"
    ),
    _case("laughs", "aliases that stand for a billion values", lambda _: laughs(), gets="LimitExceeded"),
    _case("nested", "lists nested 100,000 deep", lambda _: b"a: " + b"[" * 100_000, gets="LimitExceeded"),
    _case("json-nested", "the same in JSON", lambda _: b"[" * 100_000, "s.json", gets="LimitExceeded"),
    _case(
        "nested-block",
        "`sops` in a place where it means nothing",
        lambda _: b"a: {sops: {mac: x}}\n",
        gets=OPENS,
        so="plain",
        plain=[{"a": {"sops": {"mac": "x"}}}],
    ),
    _case(
        "quoted",
        "a text that describes an encrypted value",
        lambda _: b"a: 'it looks like ENC[AES256_GCM,data:x]'\n",
        gets=OPENS,
        so="plain",
        plain=[{"a": "it looks like ENC[AES256_GCM,data:x]"}],
    ),
    _case(
        "kubectls-words",
        "words that are text in YAML 1.2 and none in kubectl's",
        lambda _: b"a: off\nb: 0644\nc:\tyes\n",
        gets=OPENS,
        so="plain, as kubectl reads it",
        plain=[{"a": False, "b": 420, "c": True}],
    ),
    _case("many-values", "201,000 values", lambda _: b"- a\n" * 201_000, gets="LimitExceeded"),
    _case(
        "dear",
        "190,000 values, which take seconds to read",
        lambda _: b"- a\n" * 190_000,
        gets=OPENS,
        so="plain; it is read in a process of its own, at a lower priority",
        plain=[["a"] * 190_000],
    ),
    _case("dashes", "4 MiB of `- - - -`", lambda _: b"- " * 2_000_000, gets="LimitExceeded"),
    _case("braces", "4 MiB of `{{{{`", lambda _: b"{" * 4_000_000, gets="LimitExceeded"),
    _case("entries", "2,000,000 empty entries", lambda _: b"-\n" * 2_000_000, gets="LimitExceeded"),
    _case(
        "separators", "1,000,000 documents with nothing in them", lambda _: b"---\n" * 1_000_000, gets="LimitExceeded"
    ),
    _case(
        "huge-text",
        "one text of 4 MB",
        lambda _: b"a: " + b"x" * 4_000_000,
        gets=OPENS,
        so="plain",
        plain=[{"a": "x" * 4_000_000}],
    ),
    _case(
        "repeated-text",
        "a text of 300 KB that 4,000 aliases repeat",
        lambda _: b"a: &a '" + b"x" * 300_000 + b"'\nb: [" + b"*a, " * 4_000 + b"]",
        gets="LimitExceeded",
    ),
    _case(
        "anchors",
        "90,000 anchors, and none of them used",
        lambda _: b"".join(b"- &a%d x\n" % number for number in range(90_000)),
        gets=OPENS,
        so="plain",
        plain=[["x"] * 90_000],
    ),
    _case(
        "merges",
        "merge keys of merge keys, which stand for a billion keys",
        lambda _: (
            b"m0: &m0 {a: b}\n"
            + b"".join(
                b"m%d: &m%d {<<: [%s]}\n" % (level, level, b",".join([b"*m%d" % (level - 1)] * 10))
                for level in range(1, 10)
            )
        ),
        gets="LimitExceeded",
    ),
    _case("own-alias", "a list that holds itself", lambda _: b"a: &a [*a]\n", gets="UnknownFormat"),
    _case(
        "number", "a number of 4,000,000 digits", lambda _: b'{"a": ' + b"9" * 4_000_000 + b"}", gets="LimitExceeded"
    ),
    _case(
        "hidden-document",
        "a document behind `...`, which kubectl does not read",
        lambda _: b"a: b\n...\nc: d\n",
        gets="UnknownFormat",
        says="which kubectl would not read",
    ),
    _case(
        "merged-block",
        "`sops` at the top by a merge key, and an encrypted value",
        lambda lab: f"x: &x {{sops: {{}}, b: '{_one_value(lab)}'}}\n<<: *x\n".encode(),
        gets="NotEncrypted",
    ),
    _case("name-twice", "a name twice", lambda _: b"a: b\na: c\n", gets="UnknownFormat"),
    _case("dotenv-name-twice", "a variable twice", lambda _: b"A=b\nA=c\n", "s.env", gets="UnknownFormat"),
)


def _json_of(lab: Lab) -> bytes:
    return files.as_json(files.seal_documents([lab.tree], lab.data_key).documents[0])
