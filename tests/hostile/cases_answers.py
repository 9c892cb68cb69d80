"""Files that two readers may understand in two ways, and blocks that contradict themselves or the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hostile import files
from hostile.case import OPENS, Case, Documents
from hostile.lab import Lab, vault_group

from jiemi.core.content.formats import Format


def _edited(old: bytes, new: bytes) -> Callable[[Lab], bytes]:
    """The tenant's file, all of it encrypted, with an edit."""

    def edit(lab: Lab) -> bytes:
        data = lab.file()
        assert old in data
        return data.replace(old, new, 1)

    return edit


def _with_block(_: Lab, text: str) -> bytes:
    return f'a: ""\nsops: {text}\n'.encode()


def _two(lab: Lab, **block_fields: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Two documents, and the block for both."""
    sealed = files.seal_documents([{"a": "first"}, {"b": "second"}], lab.data_key)
    first, second = sealed.documents
    return first, second, files.block(sealed, lab.for_age, **block_fields)


def _joined(lab: Lab, mark: str) -> bytes:
    first, second, block = _two(lab)
    joined = files.as_yaml({**first, "sops": block}, {**second, "sops": block})
    return joined.replace(b"\n---\n", mark.encode(), 1)


def _both(_: Lab, documents: Documents) -> None:
    assert documents == [{"a": "first"}, {"b": "second"}]


def _opens(name: str, tries: str, file: Callable[[Lab], bytes], so: str = "", **more: Any) -> Case:
    return Case(name=name, tries=tries, file=file, gets=OPENS, so=so, **more)


def _refused(name: str, tries: str, gets: str, file: Callable[[Lab], bytes], **more: Any) -> Case:
    return Case(name=name, tries=tries, file=file, gets=gets, **more)


def _block_in_the_second(lab: Lab) -> bytes:
    first, second, block = _two(lab)
    return files.as_yaml(first, {**second, "sops": block})


def _hostile_second_block(lab: Lab) -> bytes:
    first, second, block = _two(lab)
    hostile = block | {"age": []} | vault_group(lab.stranger.address)
    return files.as_yaml({**first, "sops": block}, {**second, "sops": hostile})


def _hostile_first_block(lab: Lab) -> bytes:
    first, second, block = _two(lab)
    hostile = {name: value for name, value in block.items() if name != "age"} | vault_group(lab.stranger.address)
    return files.as_yaml({**first, "sops": hostile}, {**second, "sops": block})


def _with_named_vault(lab: Lab) -> Any:
    return (lab.age, lab.named_vault)


DOCUMENTS = (
    _refused(
        "same-key-twice",
        "a key twice in one mapping",
        "UnknownFormat",
        _edited(b'"kind":', b'"apiVersion": "v2"\n"kind":'),
    ),
    _refused(
        "same-key-twice-in-a-second-document",
        "a key twice in a second document, where sops does not look for that",
        "UnknownFormat",
        lambda lab: _joined(lab, "\n---\n").replace(b'"b": ', b'"b": null\n"b": '),
    ),
    _refused(
        "block-twice", "a second `sops:` in one document", "UnknownFormat", lambda lab: lab.file() + b'"sops": {}\n'
    ),
    _opens(
        "block-twice-in-two-documents",
        "a block in each document, the second one naming the stranger",
        _hostile_second_block,
        "by the first one's block; the second is not read",
        keys=_with_named_vault,
        opened=_both,
    ),
    _refused(
        "hostile-block-first",
        "a block in each document, the first one naming the stranger",
        "DestinationNotAllowed",
        _hostile_first_block,
        keys=_with_named_vault,
    ),
    _refused(
        "block-in-the-second-document", "a block in the second document only", "NotEncrypted", _block_in_the_second
    ),
    _refused(
        "empty-first-document",
        "an empty document before the file",
        "NotEncrypted",
        lambda lab: b"---\n---\n" + lab.file(),
    ),
    *(
        _opens(
            f"documents-by-{name}",
            f"a second document behind {what}",
            partial(_joined, mark=mark),
            "both documents, none is lost",
            opened=_both,
        )
        for name, what, mark in (
            ("next-line", "U+0085, which ends a line in YAML 1.1", "\u0085---\u0085"),
            ("line-separator", "U+2028, which ends a line in YAML 1.1", "\u2028---\u2028"),
            ("paragraph-separator", "U+2029, which ends a line in YAML 1.1", "\u2029---\u2029"),
            ("carriage-return", "a carriage return", "\r---\r"),
            ("document-end", "`...`", "\n...\n---\n"),
        )
    ),
    _refused(
        "byte-order-mark-before-a-document",
        "a byte order mark before the second document's mark",
        "UnknownFormat",
        lambda lab: _joined(lab, "\n\ufeff---\n"),
    ),
    _refused(
        "document-mark-put-in",
        "a document mark in the middle, so that the block is the second document's",
        "NotEncrypted",
        _edited(b'"stringData":', b'---\n"stringData":'),
    ),
)


def _aliased(lab: Lab) -> tuple[str, bytes]:
    """A block as one line, and the Secret's only value, with a MAC over nothing else."""
    sealed = files.seal_documents(
        [{"password": lab.plain}], lab.data_key, encrypted=lambda path: path[0] == "password", mac_only_encrypted=True
    )
    block = files.block(sealed, lab.for_age, encrypted_regex="^password$", mac_only_encrypted=True)
    return json.dumps(block), files.as_yaml(sealed.documents[0])


def _alias(form: str) -> Callable[[Lab], bytes]:
    def make(lab: Lab) -> bytes:
        block, data = _aliased(lab)
        return form.replace("BLOCK", block).replace("DATA\n", data.decode()).encode()

    return make


def _has_block_as(name: str) -> Callable[[Lab, Documents], None]:
    def look(lab: Lab, documents: Documents) -> None:
        [document] = documents
        assert document["password"] == lab.plain
        assert document[name]["age"][0]["recipient"] == lab.age_recipient

    return look


def _tagged(tag: str) -> Callable[[Lab], bytes]:
    return _edited(b'"password": ', f'"password": {tag} '.encode())


YAML = (
    _opens(
        "block-by-an-alias",
        "the block as an alias of a mapping of the data",
        _alias("x: &b BLOCK\nDATA\nsops: *b\n"),
        "with the block's public text as data",
        opened=_has_block_as("x"),
    ),
    _opens(
        "alias-of-the-block",
        "the block's anchor as an alias in the data",
        _alias("DATA\nsops: &b BLOCK\ncopy: *b\n"),
        "with the block's public text as data",
        opened=_has_block_as("copy"),
    ),
    _refused(
        "block-by-a-merge-key",
        "the block's content by a merge key",
        "DecryptionFailed",
        _alias("x: &b BLOCK\nDATA\nsops:\n  <<: *b\n"),
    ),
    _refused(
        "data-by-a-merge-key",
        "a value copied into another mapping by a merge key",
        "MacMismatch",
        _edited(b'"kind":', b'"more": {<<: {"a": "b"}}\n"kind":'),
    ),
    _refused(
        "value-by-an-alias",
        "an encrypted value's alias at another place, to have it decrypted there",
        "MacMismatch",
        lambda lab: (
            lab.file().replace(b'"password": ', b'"password": &p ').replace(b'"user": ', b'"other": *p\n  "user": ')
        ),
    ),
    _refused(
        "alias-of-nothing", "an alias without its anchor", "UnknownFormat", lambda lab: lab.file() + b"y: *nobody\n"
    ),
    _refused("alias-of-itself", "a list that holds itself", "UnknownFormat", lambda lab: lab.file() + b"r: &r [*r]\n"),
    *(
        _opens(f"tag-{name}", f"the tag `{tag}` on a value", _tagged(tag), "the tag is dropped")
        for name, tag in (
            ("python", "!!python/object/apply:os.system"),
            ("custom", "!custom"),
            ("foreign", "!<tag:evil.example,2026:x>"),
        )
    ),
    *(
        _refused(f"tag-{name}", f"the tag `{tag}` on an encrypted value", "UnknownFormat", _tagged(tag))
        for name, tag in (("binary", "!!binary"), ("int", "!!int"), ("null", "!!null"), ("timestamp", "!!timestamp"))
    ),
    _opens(
        "tag-on-the-block",
        "a tag of Python's on the block",
        _edited(b'"sops":', b'"sops": !!python/object:os.system'),
        "the tag is dropped",
    ),
    _refused("key-a-list", "a list as a key", "UnknownFormat", _edited(b'"kind":', b'[1]: null\n"kind":')),
    _refused("key-a-number", "a number as a key", "MacMismatch", _edited(b'"kind":', b'1: null\n"kind":')),
    _refused("key-null", "null as a key", "MacMismatch", _edited(b'"kind":', b'~: null\n"kind":')),
)


def _odd_names(lab: Lab) -> dict[str, Any]:
    return {"a\u0007\u200b\u202e": lab.plain, "": "e", "null": "n"}


def _odd(lab: Lab) -> bytes:
    sealed = files.seal_documents([_odd_names(lab)], lab.data_key)
    return files.as_json({**sealed.documents[0], "sops": files.block(sealed, lab.for_age)})


def _odd_come_out(lab: Lab, documents: Documents) -> None:
    assert documents == [_odd_names(lab)]


BYTES = (
    _opens("byte-order-mark", "a byte order mark of UTF-8", lambda lab: b"\xef\xbb\xbf" + lab.file()),
    _opens(
        "utf-16-little",
        "the file in UTF-16 (little end first)",
        lambda lab: b"\xff\xfe" + lab.file().decode().encode("utf-16-le"),
    ),
    _opens(
        "utf-16-two-documents",
        "two documents in UTF-16 (big end first), where a mark looks different",
        lambda lab: b"\xfe\xff" + _joined(lab, "\n---\n").decode().encode("utf-16-be"),
        "both documents, none is lost",
        opened=_both,
    ),
    _refused("utf-32", "the file in UTF-32", "UnknownFormat", lambda lab: lab.file().decode().encode("utf-32")),
    _opens("windows-line-ends", "Windows' line ends", lambda lab: lab.file().replace(b"\n", b"\r\n")),
    _refused("nul", "a NUL", "UnknownFormat", _edited(b'"kind"', b'\0"kind"')),
    _refused(
        "nul-and-a-second-file",
        "a NUL behind the file, and another file behind that",
        "UnknownFormat",
        lambda lab: lab.file() + b"\0" + lab.file(),
    ),
    _refused("no-utf-8", "bytes that are no UTF-8", "UnknownFormat", _edited(b'"kind"', b'"\xff\xfe"')),
    _opens("long-line", "a comment of 3,000,000 characters", lambda lab: b"# " + b"x" * 3_000_000 + b"\n" + lab.file()),
    _opens("odd-names", "names that don't print, an empty one and `null`", _odd, "each as it is", opened=_odd_come_out),
    _opens("odd-names-json", "the same in JSON", _odd, "each as it is", opened=_odd_come_out, format=Format.JSON),
    _refused(
        "name-with-an-escape",
        "a name with an escape sequence for terminals",
        "MacMismatch",
        _edited(b'"kind"', b'"\\x1b[31mkind\\x07"'),
    ),
)


def _json(lab: Lab) -> bytes:
    sealed = files.seal_documents([lab.tree], lab.data_key)
    return files.as_json({**sealed.documents[0], "sops": files.block(sealed, lab.for_age)})


def _json_and(more: bytes) -> Callable[[Lab], bytes]:
    """The tenant's file in JSON, with more at the end of the object."""
    return lambda lab: _json(lab).rstrip()[:-1] + more + b"}"


def _wrapped_binary(lab: Lab) -> bytes:
    sealed = files.seal_documents([{"data": lab.plain}], lab.data_key)
    return files.as_json({**sealed.documents[0], "sops": files.block(sealed, lab.for_age)})


def _is_data(lab: Lab, documents: Documents) -> None:
    assert documents == [{"data": lab.plain}]


def _dotenv(lab: Lab, old: str = "", new: str = "", more: str = "") -> bytes:
    sealed = files.seal_documents([{"A": lab.plain}], lab.data_key)
    [entry] = files.for_age(lab.data_key, lab.age_recipient)["age"]
    lines = (
        f"A={sealed.documents[0]['A']}",
        f"sops_age__list_0__map_enc={entry['enc']}".replace("\n", "\\n"),
        f"sops_age__list_0__map_recipient={entry['recipient']}",
        f"sops_lastmodified={files.NOW}",
        f"sops_mac={sealed.mac}",
        "sops_version=3.13.3",
    )
    text = "\n".join(lines) + "\n"
    assert old in text
    return (text.replace(old, new, 1) + more).encode()


def _ini(lab: Lab, more: str) -> bytes:
    sealed = files.seal_documents([{"s": {"a": lab.plain}}], lab.data_key)
    [entry] = files.for_age(lab.data_key, lab.age_recipient)["age"]
    lines = (
        "[s]",
        f"a = {sealed.documents[0]['s']['a']}",
        "[sops]",
        f"age__list_0__map_enc = {entry['enc']}".replace("\n", "\\n"),
        f"age__list_0__map_recipient = {entry['recipient']}",
        f"lastmodified = {files.NOW}",
        f"mac = {sealed.mac}",
        "version = 3.13.3",
    )
    return ("\n".join(lines) + "\n" + more).encode()


FORMATS = (
    _opens("json-as-yaml", "JSON in a .yaml file", _json, "it is YAML too"),
    _refused("yaml-as-json", "YAML in a .json file", "UnknownFormat", lambda lab: lab.file(), format=Format.JSON),
    _opens(
        "binary-as-yaml",
        "sops's wrapper of a binary file in a .yaml file",
        _wrapped_binary,
        "the wrapper, which is no Kubernetes object",
        opened=_is_data,
    ),
    _refused(
        "json-as-binary",
        "a Secret where a binary file's wrapper should be",
        "UnknownFormat",
        _json,
        format=Format.BINARY,
    ),
    _refused("dotenv-as-yaml", "dotenv in a .yaml file", "UnknownFormat", _dotenv),
    _opens(
        "json-twice",
        "a second object behind the first",
        lambda lab: _json(lab) + b'\n{"kind": "ClusterRole"}',
        "the first alone",
        format=Format.JSON,
    ),
    _refused(
        "json-cut",
        "an object without its end",
        "UnknownFormat",
        lambda lab: _json(lab).rstrip()[:-1],
        format=Format.JSON,
    ),
    _refused(
        "json-block-twice",
        "a second `sops` in one object",
        "DecryptionFailed",
        _json_and(b',"sops":{}'),
        format=Format.JSON,
    ),
    _refused(
        "json-key-twice",
        "a name twice, once with null, which no MAC covers",
        "UnknownFormat",
        _json_and(b',"kind":null'),
        format=Format.JSON,
    ),
    _refused("json-nan", "NaN", "UnknownFormat", _json_and(b',"n":NaN'), format=Format.JSON),
    _refused(
        "json-huge-number", "a number beyond a double", "UnknownFormat", _json_and(b',"n":1e999'), format=Format.JSON
    ),
    _refused(
        "json-list", "a list of one object", "UnknownFormat", lambda lab: b"[" + _json(lab) + b"]", format=Format.JSON
    ),
    _refused(
        "dotenv-version-twice",
        "`sops_version` twice",
        "DecryptionFailed",
        lambda lab: _dotenv(lab, more="sops_version=3.0.0\n"),
        format=Format.DOTENV,
    ),
    _refused(
        "dotenv-mac-twice",
        "`sops_mac` twice, the second empty",
        "DecryptionFailed",
        lambda lab: _dotenv(lab, more="sops_mac=\n"),
        format=Format.DOTENV,
    ),
    _refused(
        "dotenv-name-twice",
        "a name twice",
        "UnknownFormat",
        lambda lab: _dotenv(lab, more="A=\n"),
        format=Format.DOTENV,
    ),
    _refused(
        "dotenv-hole",
        "a list of recipients that begins at 7",
        "DecryptionFailed",
        lambda lab: _dotenv(lab, "list_0", "list_7"),
        format=Format.DOTENV,
    ),
    _refused(
        "dotenv-huge-index",
        "a list with an index of 20 digits",
        "DecryptionFailed",
        lambda lab: _dotenv(lab, "list_0", f"list_{10**20}"),
        format=Format.DOTENV,
    ),
    _refused(
        "dotenv-carriage-return",
        "a carriage return in a name",
        "MacMismatch",
        lambda lab: _dotenv(lab, "A=", "A\r="),
        format=Format.DOTENV,
    ),
    _refused(
        "ini-block-twice",
        "`[sops]` twice",
        "DecryptionFailed",
        lambda lab: _ini(lab, "[sops]\nversion = 3.0.0\n"),
        format=Format.INI,
    ),
    _refused(
        "ini-section-twice", "a section twice", "UnknownFormat", lambda lab: _ini(lab, "[s]\na =\n"), format=Format.INI
    ),
    *(
        _refused(
            f"block-{name}",
            f"a block that is {what}",
            "DecryptionFailed",
            partial(_with_block, text=text),
        )
        for name, what, text in (
            ("null", "null", "null"),
            ("list", "a list", "[]"),
            ("text", "a text", "x"),
            ("empty", "empty", "{}"),
        )
    ),
)


def _fields(name: str, tries: str, gets: str, says: str = "", **fields: Any) -> Case:
    """The tenant's file, with other fields in its block."""
    return Case(name=name, tries=tries, file=lambda lab: lab.file(**fields), gets=gets, says=says)


def _harmless(name: str, tries: str, so: str = "", **fields: Any) -> Case:
    return Case(name=name, tries=tries, file=lambda lab: lab.file(**fields), gets=OPENS, so=so)


def _part(lab: Lab) -> bytes:
    """The tenant's Secret with what is under stringData encrypted, as most write it."""
    sealed = files.seal_documents([lab.tree], lab.data_key, encrypted=lambda path: path[0] == "stringData")
    block = files.block(sealed, lab.for_age, encrypted_regex="^stringData$")
    return files.as_yaml({**sealed.documents[0], "sops": block})


def _part_edited(old: str, new: str) -> Callable[[Lab], bytes]:
    def edit(lab: Lab) -> bytes:
        text = _part(lab).decode()
        assert old in text
        return text.replace(old, new, 1).encode()

    return edit


def _mac_of_another_file(lab: Lab) -> bytes:
    other = files.seal_documents([{"a": "b"}], lab.data_key)
    return lab.file(mac=other.mac)


def _mac_with_another_key(lab: Lab) -> bytes:
    other = files.seal_documents([lab.tree], bytes(32))
    return lab.file(mac=other.mac)


def _swapped_list(lab: Lab) -> bytes:
    sealed = files.seal_documents([{"a": [lab.plain, "second"]}], lab.data_key)
    first, second = sealed.documents[0]["a"]
    return files.as_yaml({"a": [second, first], "sops": files.block(sealed, lab.for_age)})


def _two_groups(threshold: object) -> Callable[[Lab], Mapping[str, Any]]:
    """Two key groups, one of them another tenant's."""

    def make(lab: Lab) -> Mapping[str, Any]:
        mine, theirs = files.shares(lab.data_key, 2)
        groups = [files.for_age(mine, lab.age_recipient), files.for_age(theirs, lab.other_recipient)]
        return {"key_groups": groups, "shamir_threshold": threshold}

    return make


def _threshold(name: str, what: str, value: object, gets: str = "KeyMissing") -> Case:
    groups = _two_groups(value)
    return Case(
        name=f"threshold-{name}",
        tries=f"a threshold of {what}, where one of two key groups opens",
        file=lambda lab: lab.file(groups(lab)),
        gets=gets,
    )


def _renamed(lab: Lab, documents: Documents) -> None:
    assert documents == [lab.tree | {"metadata": {"generateName": "x"}}]


def _moved(lab: Lab, documents: Documents) -> None:
    assert documents == [lab.tree | {"apiVersion": "v1Sec", "kind": "ret"}]


def _added(lab: Lab, documents: Documents) -> None:
    assert documents == [lab.tree | {"added": {"a": None, "b": "", "c": {}}}]


MAC = (
    _fields("mac-missing", "no MAC", "MacMismatch", mac=...),
    _fields("mac-empty", "an empty MAC", "MacMismatch", mac=""),
    _fields("mac-null", "a MAC that is null", "MacMismatch", mac=None),
    _fields("mac-list", "a MAC that is a list", "DecryptionFailed", mac=["x"]),
    Case(
        name="mac-of-another-file",
        tries="the MAC of another file with the same data key",
        file=_mac_of_another_file,
        gets="MacMismatch",
    ),
    Case(
        name="mac-with-another-key",
        tries="the right MAC, encrypted with another key",
        file=_mac_with_another_key,
        gets="MacMismatch",
    ),
    _fields("mac-only-encrypted", "`mac_only_encrypted` switched on", "MacMismatch", mac_only_encrypted=True),
    _refused(
        "mac-says-memory",
        "a MAC whose text is Go's when it has no memory left",
        "MacMismatch",
        lambda lab: lab.file(mac="out of memory"),
    ),
    _refused(
        "value-says-memory",
        "a value whose text is Go's when it has no memory left",
        "MacMismatch",
        _edited(b'"kind":', b'"added": "out of memory"\n"kind":'),
    ),
    _refused(
        "value-taken-out", "a value less", "MacMismatch", lambda lab: _part(lab).replace(b'"kind": "Secret"\n', b"")
    ),
    _refused(
        "value-changed",
        "a value that is not encrypted changed",
        "MacMismatch",
        _part_edited('"name": "x"', '"name": "y"'),
    ),
    _refused(
        "value-moved", "an encrypted value under another name", "MacMismatch", _part_edited('"password"', '"passwort"')
    ),
    _refused("values-swapped", "two encrypted values of one list swapped", "MacMismatch", _swapped_list),
    _refused(
        "regex-takes-plain",
        "`encrypted_regex` changed so that a plain value is taken for an encrypted one",
        "MacMismatch",
        _part_edited("^stringData$", ".*"),
    ),
    _refused(
        "regex-takes-none",
        "`encrypted_regex` changed so that an encrypted value is taken for a plain one",
        "MacMismatch",
        _part_edited("^stringData$", "^nothing$"),
    ),
    _refused("regex-broken", "an `encrypted_regex` that is none", "MacMismatch", _part_edited("^stringData$", "(")),
    _refused(
        "suffix-put-in",
        "`unencrypted_suffix` in place of the regex",
        "MacMismatch",
        _part_edited('"encrypted_regex": "^stringData$"', '"unencrypted_suffix": "Data"'),
    ),
    _refused(
        "comment-regex",
        "`encrypted_comment_regex` in place of the regex",
        "MacMismatch",
        _part_edited('"encrypted_regex": "^stringData$"', '"encrypted_comment_regex": "x"'),
    ),
    _fields(
        "two-rules",
        "two rules of what is encrypted",
        "DecryptionFailed",
        encrypted_regex="^a$",
        unencrypted_suffix="_x",
    ),
    *(
        _refused(
            f"type-{kind}",
            f"an encrypted text's type changed to `{kind}`, which nothing authenticates",
            gets,
            _part_edited("type:str", f"type:{kind}"),
        )
        for kind, gets in (
            ("bytes", "DecryptionFailed"),
            ("comment", "MacMismatch"),
            ("int", "MacMismatch"),
            ("time", "MacMismatch"),
            ("evil", "MacMismatch"),
        )
    ),
    _opens(
        "name-changed",
        "a name that is not encrypted changed: sops's MAC covers values",
        _part_edited('"name"', '"generateName"'),
        "with that name; who can write the file can write all that is not encrypted",
        opened=_renamed,
    ),
    _opens(
        "value-border-moved",
        "letters moved from one plain value to the one before it: sops's MAC covers them as one text",
        lambda lab: _part(lab).replace(b'"v1"', b'"v1Sec"', 1).replace(b'"Secret"', b'"ret"', 1),
        "with those values, which the API server refuses here",
        opened=_moved,
    ),
    _opens(
        "nothing-added",
        "null, an empty text and an empty mapping, which sops's MAC does not cover",
        _part_edited('"kind":', '"added": {"a": null, "b": "", "c": {}}\n"kind":'),
        "with them",
        opened=_added,
    ),
)

BLOCK = (
    _harmless("version-of-the-future", "a version of sops that does not exist yet", version="99.0.0"),
    _fields("version-empty", "an empty version", "DecryptionFailed", version=""),
    _fields("version-null", "a version that is null", "DecryptionFailed", version=None),
    _fields("version-huge", "a version of 100,000 digits", "DecryptionFailed", version="9" * 100_000),
    _fields("version-no-number", "a version without numbers", "DecryptionFailed", version="x.y.z"),
    _threshold("0", "0", 0),
    _threshold("negative", "-1", -1),
    _threshold("more-than-groups", "99", 99),
    _threshold("huge", "10^30", 10**30),
    _threshold("text", "`x`", "x", "DecryptionFailed"),
    _harmless("threshold-without-groups", "a threshold of -5 without key groups", shamir_threshold=-5),
    Case(
        name="groups-empty",
        tries="an empty list of key groups",
        file=lambda lab: lab.file({"key_groups": []}),
        gets="DecryptionFailed",
    ),
    Case(
        name="group-empty",
        tries="one key group without keys",
        file=lambda lab: lab.file({"key_groups": [{}]}),
        gets="KeyMissing",
    ),
    _harmless(
        "groups-beside-recipients",
        "key groups that name nobody, beside recipients",
        "by the recipients; sops does not look at the groups then",
        key_groups=[{"age": [{"recipient": "x", "enc": "x"}]}],
    ),
    *(
        _fields(
            f"lastmodified-{name}", f"a time of the last change that is {what}", "DecryptionFailed", lastmodified=value
        )
        for name, what, value in (
            ("text", "none", "never"),
            ("empty", "empty", ""),
            ("null", "null", None),
            ("number", "a number", 5),
            ("year-99999", "in the year 99999", "99999-01-01T00:00:00Z"),
        )
    ),
    _fields(
        "lastmodified-later", "another time of the last change", "MacMismatch", lastmodified="2999-01-01T00:00:00Z"
    ),
    Case(
        name="created-at-text",
        tries="a key whose time of creation is none",
        file=lambda lab: lab.file({"pgp": [{"fp": "x", "created_at": "x", "enc": "x"}]}),
        gets="DecryptionFailed",
    ),
    Case(
        name="recipient-control-characters",
        tries="a recipient with an escape sequence for terminals",
        file=lambda lab: lab.asks_age(files.age_wrap(lab.data_key, lab.age_recipient), "age1\x1b[31m\nx"),
        gets="DestinationNotAllowed",
    ),
    Case(
        name="recipient-long",
        tries="a recipient of 100,000 letters",
        file=lambda lab: lab.asks_age(files.age_wrap(lab.data_key, lab.age_recipient), "age1" + "q" * 100_000),
        gets="DestinationNotAllowed",
    ),
)

CASES = (*DOCUMENTS, *YAML, *BYTES, *FORMATS, *MAC, *BLOCK)
