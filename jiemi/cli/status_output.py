"""What `jiemi status` prints for programs: JSON or YAML, of which nothing is secret.

A Decryptor's spec may hold literal credentials, so it is not shown: `kubectl get decryptor -o yaml` shows it
on purpose.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.fields import unstructure


def as_text(decryptors: Sequence[Decryptor], *, yaml: bool) -> str:
    """A document with one entry for each under `items`: namespace, name, generation, `ready` and the whole status."""
    document = {"items": [_item(each) for each in decryptors]}
    if not yaml:
        return json.dumps(document, indent=2) + "\n"
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # it is typed as None
    writer.dump(document, stream)
    return stream.getvalue()


def _item(decryptor: Decryptor) -> dict[str, Any]:
    meta, ready = decryptor.meta, decryptor.ready
    return {
        "namespace": meta.namespace,
        "name": meta.name,
        "generation": meta.generation,
        "ready": ready.status if ready is not None else "Unknown",
        "reason": ready.reason if ready is not None else "",
        "message": ready.message if ready is not None else "",
        "status": unstructure(decryptor.status) if decryptor.status is not None else None,
    }
