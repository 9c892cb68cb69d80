"""Values of a Secret that are SOPS files themselves: hostile ones, and those that only look like it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from hostile import files
from hostile.case import OPENS
from hostile.cases_bombs import laughs
from hostile.cases_mac import file as with_mac
from hostile.cases_repositories import FILE, Entries, Objects, TreeCase
from hostile.lab import Keys, Lab, vault_group

from jiemi.rpc.contract import NestedPlaces

PLACES = (
    NestedPlaces(
        having=(("apiVersion", "v1"), ("kind", "Secret")), texts=("stringData",), encoded=("data",), lists=("items",)
    ),
)
"""As Miwen asks for them."""

Values = Mapping[str, str]


def _secret(values: Values, kind: str = "Secret") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "stringData": dict(values)}


def _inner(lab: Lab, *parts: Mapping[str, object], plain: object = None, **block: Any) -> str:
    """A file with the tenant's secret in it, by a block of these parts; of none, of the tenant's recipient."""
    sealed = files.seal_documents([{"a": plain if plain is not None else lab.plain}], lab.data_key)
    return files.as_yaml(
        {**sealed.documents[0], "sops": files.block(sealed, *(parts or (lab.for_age,)), **block)}
    ).decode()


def _wrapped(lab: Lab, text: str) -> str:
    sealed = files.seal_documents([{"data": text}], lab.data_key)
    return files.as_json({**sealed.documents[0], "sops": files.block(sealed, lab.for_age)}).decode()


def _times(lab: Lab, count: int) -> str:
    text = _inner(lab)
    for _ in range(count - 1):
        text = _wrapped(lab, text)
    return text


def _opens_vault(lab: Lab) -> dict[str, object]:
    return vault_group(lab.vault.address, enc=lab.in_vault())


def _case(name: str, tries: str, content: Callable[[Lab], bytes], **more: Any) -> TreeCase:
    def tree(objects: Objects, lab: Lab) -> Entries:
        return [(b"s.yaml", FILE, objects.blob(content(lab)))]

    return TreeCase(name=f"nested-{name}", tries=tries, tree=tree, allow_plain=True, nested=PLACES, **more)


def _values(name: str, tries: str, values: Callable[[Lab], Values], **more: Any) -> TreeCase:
    """A plain Secret with these values."""
    return _case(name, tries, lambda lab: json.dumps(_secret(values(lab))).encode(), **more)


def _left(name: str, tries: str, tree: Callable[[Lab], dict[str, Any]], so: str) -> TreeCase:
    """What Krapao leaves as it is."""
    return _case(
        name, tries, lambda lab: json.dumps(tree(lab)).encode(), gets=OPENS, so=so, expected=lambda lab: [tree(lab)]
    )


def _unnamed_vault(lab: Lab) -> Keys:
    return (lab.vault_key(),)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _many(lab: Lab, count: int, **block: Any) -> Values:
    text = _inner(lab, **block)
    return {f"k{number}": text for number in range(count)}


def _asking(lab: Lab) -> str:
    """A file that asks for 100 data keys that nobody opens before the one that the tenant does."""
    [right] = lab.for_age["age"]
    wrong = {"recipient": lab.age_recipient, "enc": files.age_wrap(lab.data_key, lab.other_recipient)}
    return _inner(lab, {"age": [*[wrong] * 99, right]})


_NO_OBJECT = "left as it is, and refused by Miwen: `CiphertextLeft`"

CASES = (
    _values(
        "opens",
        "a value that is a file of the tenant's",
        lambda lab: {"app.yaml": _inner(lab)},
        gets=OPENS,
        so="decrypted in its place",
        expected=lambda lab: [_secret({"app.yaml": f"a: {lab.plain}\n"})],
    ),
    _values(
        "stranger",
        "the stranger as Vault in a value, where the spec names another",
        lambda lab: {"k": _inner(lab, vault_group(lab.stranger.address))},
        keys=lambda lab: (lab.named_vault,),
        gets="DestinationNotAllowed",
        says="document 1, stringData.k: ",
    ),
    _case(
        "stranger-after-the-file",
        "the stranger as Vault in a value of a file that the unnamed first Vault opened",
        lambda lab: files.as_yaml(
            {
                **(
                    sealed := files.seal_documents(
                        [_secret({"k": _inner(lab, vault_group(lab.stranger.address))})], lab.data_key
                    )
                ).documents[0],
                "sops": files.block(sealed, _opens_vault(lab)),
            }
        ),
        keys=_unnamed_vault,
        gets="DestinationNotAllowed",
    ),
    _values(
        "stranger-after-a-value",
        "the stranger as Vault in a second value, where the first was opened by an unnamed Vault",
        lambda lab: {"a": _inner(lab, _opens_vault(lab)), "b": _inner(lab, vault_group(lab.stranger.address))},
        keys=_unnamed_vault,
        gets="DestinationNotAllowed",
        says="stringData.b",
    ),
    _values(
        "stranger-within",
        "the stranger as Vault in a file within a value",
        lambda lab: {"k": _wrapped(lab, _inner(lab, vault_group(lab.stranger.address)))},
        keys=lambda lab: (lab.age, lab.named_vault),
        gets="DestinationNotAllowed",
    ),
    _values(
        "other-tenant",
        "another tenant's file as a value",
        lambda lab: {"k": lab.other_file.decode()},
        gets="KeyMissing",
        says="stringData.k",
    ),
    _values(
        "changed",
        "a value with a value changed",
        lambda lab: {"k": _inner(lab).replace('"a": "ENC[', '"added": "x"\n"a": "ENC[')},
        gets="MacMismatch",
        says="stringData.k",
    ),
    _values(
        "no-mac",
        "a value whose MAC is another's",
        lambda lab: {"k": _inner(lab, mac=files.seal("x", lab.data_key, ""))},
        gets="MacMismatch",
    ),
    _values(
        "too-deep", "a file in a file in a file in a file", lambda lab: {"k": _times(lab, 4)}, gets="LimitExceeded"
    ),
    _values("too-many", "101 values", lambda lab: _many(lab, 101), gets="LimitExceeded"),
    _values(
        "data-keys",
        "three values that ask for 100 data keys each, where a file may ask for 200",
        lambda lab: {name: _asking(lab) for name in "abc"},
        gets="LimitExceeded",
        says="stringData.c",
    ),
    _case(
        "large",
        "a value of a megabyte, by aliases ten times",
        lambda lab: (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData:\n"
            f"  k0: &a {json.dumps(_inner(lab, plain='x' * 1_000_000))}\n"
            + "".join(f"  k{number}: *a\n" for number in range(1, 10))
        ).encode(),
        gets="LimitExceeded",
    ),
    _values(
        "laughs",
        "aliases that stand for a billion values, within a value",
        lambda lab: {"k": laughs().decode() + _inner(lab)},
        gets="UnknownFormat",
        says="stringData.k",
    ),
    _values(
        "no-file",
        "a value that has a file's metadata, and is not of its format",
        lambda lab: {"k": _inner(lab) + "]: ["},
        gets="UnknownFormat",
        says="stringData.k",
    ),
    _values(
        "mac-only",
        "a value with `mac_only_encrypted`, where the operator wants full MACs",
        lambda lab: {"k": with_mac(lab, only=True).decode()},
        require_full_mac=True,
        gets="MacOnlyEncrypted",
        says="stringData.k",
    ),
    _case(
        "mac-only-file",
        "a file with `mac_only_encrypted`, where the operator wants full MACs",
        lambda lab: with_mac(lab, only=True),
        require_full_mac=True,
        gets="MacOnlyEncrypted",
    ),
    _case(
        "mac-only-escaped",
        "the same with a letter of its name escaped",
        lambda lab: with_mac(lab, only=True).replace(b'"mac_only', b'"\\x6dac_only'),
        require_full_mac=True,
        gets="MacOnlyEncrypted",
    ),
    _case(
        "mac-only-capitals",
        "the same in capitals, which sops takes too",
        lambda lab: with_mac(lab, only=True).replace(b"mac_only_encrypted", b"MAC_ONLY_ENCRYPTED"),
        require_full_mac=True,
        gets="MacOnlyEncrypted",
    ),
    _case(
        "mac-only-text",
        'the same as the text `"1"`, which sops takes for true',
        lambda lab: with_mac(lab, only=True).replace(b'"mac_only_encrypted": true', b'"mac_only_encrypted": "1"'),
        require_full_mac=True,
        gets="MacOnlyEncrypted",
    ),
    _left(
        "config-map",
        "the same value in a ConfigMap, to have it decrypted where many may read it",
        lambda lab: _secret({"k": lab.other_file.decode()}, "ConfigMap"),
        _NO_OBJECT,
    ),
    _left(
        "base64-twice",
        "a value that is a file in two layers of base64",
        lambda lab: _secret({}) | {"data": {"k": _b64(_b64(lab.other_file.decode()))}},
        _NO_OBJECT,
    ),
    _left(
        "base64-within",
        "a file in base64 within a text: a field of a kubeconfig",
        lambda lab: _secret({"k": f"users:\n- user:\n    client-key-data: {_b64(lab.other_file.decode())}\n"}),
        _NO_OBJECT,
    ),
    _left(
        "told",
        "a value that only describes such a file",
        lambda _: _secret({"k": "sops:\n  mac: ENC[AES256_GCM,data:…]\n"}),
        "plain",
    ),
)
