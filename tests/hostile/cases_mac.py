"""What a writer without the key can change under each kind of MAC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostile import files
from hostile.case import OPENS, Case, Documents
from hostile.lab import Lab


def _tree(lab: Lab) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "app",
            "namespace": "team",
            "labels": {"tier": "a"},
            "annotations": {"note": "b"},
        },
        "stringData": {"password": lab.plain},
    }


def file(lab: Lab, *, only: bool, **block: Any) -> bytes:
    """A Secret of which stringData is encrypted, as most write it."""
    sealed = files.seal_documents(
        [_tree(lab)], lab.data_key, encrypted=lambda path: path[0] == "stringData", mac_only_encrypted=only
    )
    fields = {"encrypted_regex": "^stringData$", **({"mac_only_encrypted": True} if only else {}), **block}
    return files.as_yaml({**sealed.documents[0], "sops": files.block(sealed, lab.for_age, **fields)})


def _edited(*edits: tuple[str, str], only: bool) -> Callable[[Lab], bytes]:
    def edit(lab: Lab) -> bytes:
        text = file(lab, only=only).decode()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new, 1)
        return text.encode()

    return edit


def _becomes(change: Callable[[dict[str, Any]], object], *more: Any) -> Callable[[Lab, Documents], None]:
    def look(lab: Lab, documents: Documents) -> None:
        tree = _tree(lab)
        change(tree)
        assert documents == [tree, *more]

    return look


def _full(name: str, tries: str, so: str, change: Callable[[dict[str, Any]], object], *edits: tuple[str, str]) -> Case:
    return Case(
        name=f"full-mac-{name}",
        tries=f"under a full MAC: {tries}",
        file=_edited(*edits, only=False),
        gets=OPENS,
        so=so,
        opened=_becomes(change),
    )


def _only(
    name: str,
    tries: str,
    change: Callable[[dict[str, Any]], object],
    *edits: tuple[str, str],
    more: tuple[Any, ...] = (),
) -> Case:
    return Case(
        name=f"mac-only-{name}",
        tries=f"with `mac_only_encrypted`: {tries}",
        file=_edited(*edits, only=True),
        gets=OPENS,
        so="changed; the condition `MacOnlyEncrypted` says that it can be, `--require-full-mac` refuses the file",
        opened=_becomes(change, *more),
    )


def _swap_names(tree: dict[str, Any]) -> None:
    tree["metadata"] |= {"name": "team", "namespace": "app"}


def _swap_labels(tree: dict[str, Any]) -> None:
    tree["metadata"] |= {"labels": {"note": "a"}, "annotations": {"tier": "b"}}


def _to_annotations(tree: dict[str, Any]) -> None:
    tree["metadata"] |= {"annotations": {"tier": "a"}, "labels": {"note": "b"}}


def _typed(lab: Lab) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"port": 80, "text": "81"}, "stringData": {"digits": "123"}}


def _with_other_types(lab: Lab) -> bytes:
    sealed = files.seal_documents([_typed(lab)], lab.data_key, encrypted=lambda path: path[0] == "stringData")
    block = files.block(sealed, lab.for_age, encrypted_regex="^stringData$")
    text = files.as_yaml({**sealed.documents[0], "sops": block}).decode()
    for old, new in (('"port": 80', '"port": "80"'), ('"text": "81"', '"text": 81'), ("type:str", "type:int")):
        assert old in text
        text = text.replace(old, new, 1)
    return text.encode()


def _other_types(lab: Lab, documents: Documents) -> None:
    expected = {"kind": "Secret", "metadata": {"port": "80", "text": 81}, "stringData": {"digits": 123}}
    assert documents == [expected]


def _two(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two Secrets, of which all is encrypted."""
    first = {"kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"password": lab.plain}}
    return first, {**first, "metadata": {"name": "app"}, "stringData": {"password": "other"}}


def _with_another_border(lab: Lab) -> bytes:
    sealed = files.seal_documents(_two(lab), lab.data_key)
    first, second = sealed.documents
    password = first.pop("stringData")
    third = {"stringData": second.pop("stringData")}
    block = files.block(sealed, lab.for_age)
    return files.as_yaml({**first, "sops": block}, {"stringData": password, **second}, third)


def _in_the_next_document(lab: Lab, documents: Documents) -> None:
    first, second = _two(lab)
    password, other = first.pop("stringData"), second.pop("stringData")
    assert documents == [first, {**second, "stringData": password}, {"stringData": other}]


def _annotations_outside(tree: dict[str, Any]) -> None:
    tree["annotations"] = tree["metadata"].pop("annotations")


CASES = (
    Case(
        name="full-mac-types",
        tries="under a full MAC: a number made a text, a text a number, an encrypted text of digits a number",
        file=_with_other_types,
        gets=OPENS,
        so="with those types: sops's MAC covers what a value is written as",
        opened=_other_types,
    ),
    _full(
        "nesting",
        "plain values moved out of the mapping that they are in, left in order",
        "so",
        _annotations_outside,
        ('  "annotations":\n    "note"', '"annotations":\n  "note"'),
    ),
    Case(
        name="full-mac-documents",
        tries="under a full MAC, and with all encrypted: the border between two documents moved, so that the password "
        "of one is in the other",
        file=_with_another_border,
        gets=OPENS,
        so="so: an encrypted value is bound to its names, and not to its document",
        opened=_in_the_next_document,
    ),
    _full(
        "name-and-namespace",
        "the names `name` and `namespace` swapped, their values left in order",
        "with another name and namespace: sops's MAC covers values in order, not their names",
        _swap_names,
        ('"name": "app"\n  "namespace": "team"', '"namespace": "app"\n  "name": "team"'),
    ),
    _full(
        "labels-renamed",
        "a label and an annotation under other names",
        "with those names",
        _swap_labels,
        ('"tier"', '"note-"'),
        ('"note"', '"tier"'),
        ('"note-"', '"note"'),
    ),
    _full(
        "labels-to-annotations",
        "labels made annotations and annotations labels",
        "so",
        _to_annotations,
        ('"labels"', '"annotations-"'),
        ('"annotations"', '"labels"'),
        ('"annotations-"', '"annotations"'),
    ),
    Case(
        name="full-mac-namespace-value",
        tries="under a full MAC: another namespace",
        file=_edited(('"team"', '"kube-system"'), only=False),
        gets="MacMismatch",
    ),
    Case(
        name="full-mac-document-added",
        tries="under a full MAC: a further document with a value",
        file=lambda lab: file(lab, only=False) + b"---\na: b\n",
        gets="MacMismatch",
    ),
    _only(
        "namespace",
        "another namespace",
        lambda tree: tree["metadata"].update(namespace="kube-system"),
        ('"team"', '"kube-system"'),
    ),
    _only("kind", "another kind", lambda tree: tree.update(kind="ConfigMap"), ('"Secret"', '"ConfigMap"')),
    _only(
        "type",
        "a type added",
        lambda tree: tree.update(type="kubernetes.io/service-account-token"),
        ('"kind"', '"type": "kubernetes.io/service-account-token"\n"kind"'),
    ),
    Case(
        name="mac-only-document-added",
        tries="with `mac_only_encrypted`: a further document",
        file=lambda lab: file(lab, only=True) + b"---\nkind: Role\n",
        gets=OPENS,
        so="with the document; the condition `MacOnlyEncrypted` says that it can be",
        opened=_becomes(lambda _: None, {"kind": "Role"}),
    ),
    Case(
        name="mac-only-encrypted-value",
        tries="with `mac_only_encrypted`: an encrypted value under another name",
        file=_edited(('"password"', '"passwort"'), only=True),
        gets="MacMismatch",
    ),
)
