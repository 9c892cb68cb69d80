"""Documents that were encrypted one by one in one file, and plain ones beside them: hostile ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hostile import files
from hostile.case import OPENS
from hostile.cases_bombs import laughs
from hostile.cases_repositories import FILE, Entries, Objects, TreeCase
from hostile.lab import Lab, vault_group

_MARK = b"---\n"
_PLAIN: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "added"}, "data": {"a": "b"}}


def _plain() -> bytes:
    return json.dumps(_PLAIN).encode() + b"\n"


def _sealed(lab: Lab, *parts: Mapping[str, object], name: str = "a") -> bytes:
    """A file with the tenant's secret in it, by a block of these parts; of none, of the tenant's recipient."""
    sealed = files.seal_documents([{name: lab.plain}], lab.data_key)
    return files.as_yaml({**sealed.documents[0], "sops": files.block(sealed, *(parts or (lab.for_age,)))})


def _asking(lab: Lab) -> bytes:
    """A file that asks for 100 data keys that nobody opens before the one that the tenant does."""
    [right] = lab.for_age["age"]
    wrong = {"recipient": lab.age_recipient, "enc": files.age_wrap(lab.data_key, lab.other_recipient)}
    return _sealed(lab, {"age": [*[wrong] * 99, right]})


def _cut(lab: Lab) -> bytes:
    """Two values, with a mark between them: the first one is in a document without a block then."""
    sealed = files.seal_documents([{"a": lab.plain, "b": lab.plain}], lab.data_key)
    text = files.as_yaml({**sealed.documents[0], "sops": files.block(sealed, lab.for_age)}).decode()
    return text.replace('"b": ', '---\n"b": ', 1).encode()


def _case(name: str, tries: str, content: Callable[[Lab], bytes], **more: Any) -> TreeCase:
    def tree(objects: Objects, lab: Lab) -> Entries:
        return [(b"s.yaml", FILE, objects.blob(content(lab)))]

    return TreeCase(name=f"joined-{name}", tries=tries, tree=tree, **more)


def _opens_vault(lab: Lab) -> dict[str, object]:
    return vault_group(lab.vault.address, enc=lab.in_vault())


CASES = (
    _case(
        "plain-in-the-file",
        "a plain document added to the file that must be encrypted",
        lambda lab: _sealed(lab) + _MARK + _plain(),
        gets="NotEncrypted",
        says="document 2: it is not encrypted",
    ),
    _case(
        "plain-before-the-file",
        "the same before it, where sops looks for the block",
        lambda lab: _plain() + _MARK + _sealed(lab),
        gets="NotEncrypted",
        says="document 1: it is not encrypted",
    ),
    _case(
        "plain-where-allowed",
        "a plain document added to an encrypted file, where plain files are allowed",
        lambda lab: _sealed(lab) + _MARK + _plain(),
        allow_plain=True,
        gets=OPENS,
        so="the added one as a plain file's, which may be no kind that holds a secret in clear by a glob alone",
        expected=lambda lab: [{"a": lab.plain}, _PLAIN],
        is_encrypted=True,
    ),
    _case(
        "block-lost",
        "a document whose block was lost beside one that has its own",
        lambda lab: _sealed(lab) + _MARK + _sealed(lab, name="b").split(b'"sops"')[0],
        allow_plain=True,
        gets="NotEncrypted",
        says="document 2: ",
    ),
    _case(
        "cut",
        "a mark in the middle of an encrypted file, beside another",
        lambda lab: _sealed(lab) + _MARK + _cut(lab),
        allow_plain=True,
        gets="NotEncrypted",
        says="document 2: ",
    ),
    _case(
        "stranger",
        "the stranger as Vault in the second block, where the spec names another",
        lambda lab: _sealed(lab, _opens_vault(lab)) + _MARK + _sealed(lab, vault_group(lab.stranger.address)),
        keys=lambda lab: (lab.named_vault,),
        gets="DestinationNotAllowed",
        says="document 2: ",
    ),
    _case(
        "stranger-after-the-first",
        "the same, where the first block was opened by an unnamed Vault",
        lambda lab: _sealed(lab, _opens_vault(lab)) + _MARK + _sealed(lab, vault_group(lab.stranger.address)),
        keys=lambda lab: (lab.vault_key(),),
        gets="DestinationNotAllowed",
        says="document 2: ",
    ),
    _case(
        "other-tenant",
        "another tenant's file as the second document",
        lambda lab: _sealed(lab) + _MARK + lab.other_file,
        gets="KeyMissing",
        says="document 2: ",
    ),
    _case(
        "data-keys",
        "three documents that ask for 100 data keys each, where a file may ask for 200",
        lambda lab: _MARK.join(_asking(lab) for _ in range(3)),
        gets="LimitExceeded",
        says="document 3: ",
    ),
    _case(
        "too-many",
        "101 documents with a block of their own",
        lambda lab: _MARK.join(_sealed(lab) for _ in range(101)),
        gets="LimitExceeded",
    ),
    _case(
        "empty-ones",
        "1,000,000 marks between two encrypted documents",
        lambda lab: _sealed(lab) + _MARK * 1_000_000 + _sealed(lab),
        gets="MacMismatch",
    ),
    _case(
        "laughs",
        "aliases that stand for a billion values in a plain document beside an encrypted one",
        lambda lab: _sealed(lab) + _MARK + laughs(),
        allow_plain=True,
        gets="LimitExceeded",
        says="document 2: ",
    ),
)
