"""A Decryptor as users of the first version have it, and changes of it."""

from __future__ import annotations

import copy
from typing import Any

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.spec import DecryptorSpec

FIRST_VERSION: dict[str, Any] = {
    "apiVersion": "jiemi.cr/v1alpha1",
    "kind": "Decryptor",
    "metadata": {
        "name": "pgp-decryptor",
        "namespace": "default",
        "uid": "u-1",
        "generation": 3,
        "resourceVersion": "77",
    },
    "spec": {
        "provider": {"pgp": {"privateKey": {"secretName": "pgp-secret", "key": "private.rsa"}}},
        "source": {
            "repository": {
                "url": "https://git.example/team/app.git",
                "credentials": {"username": {"literal": "me"}, "token": {"secretName": "git", "key": "token"}},
            },
            "fileToDecrypt": "pgp/secret.enc.yaml",
            "sopsPath": "pgp/.sops.yaml",
        },
    },
    "status": {
        "current": {
            "id": 1,
            "revision": "a888f02e1111beb2c543d729faa5d516ecaa9e12",
            "file_to_decrypt": "pgp/secret.enc.yaml",
            "deployed_at": "2022-03-03T20:37:59.024362965+00:00",
            "status": "Sync",
            "error_message": None,
        },
        "history": None,
    },
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """The first version's object with another value at a path; `...` takes the field out."""
    obj = copy.deepcopy(FIRST_VERSION)
    at: Any = obj
    *parents, last = path.split(".")
    for part in parents:
        at = at.setdefault(part, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return obj


def spec_of(decryptor: Decryptor) -> DecryptorSpec:
    """The spec, which can be read."""
    assert isinstance(decryptor.spec, DecryptorSpec)
    return decryptor.spec
