"""What was written into an object, apart from what the cluster's own controllers write."""

from __future__ import annotations

import copy
from typing import Any

_CONTROLLERS = "kube-controller-manager"
_REVISION = "deployment.kubernetes.io/revision"
"""What a Deployment's controller counts up with each change of the template."""


def but_for_controllers(live: dict[str, Any]) -> dict[str, Any]:
    """The object without what controllers write into it.

    They write when they come to it, seconds later on a busy machine. Where they did, any other write is seen by its
    time in the managed fields (in whole seconds), else by the resourceVersion too.

    Args:
        live: an object as the API server gave it.
    """
    found = copy.deepcopy(live)
    metadata = found["metadata"]
    of_others = [each for each in metadata["managedFields"] if each["manager"] != _CONTROLLERS]
    if of_others != metadata["managedFields"]:
        found.pop("status", None)
        metadata.pop("resourceVersion")
        metadata.get("annotations", {}).pop(_REVISION, None)
        metadata["managedFields"] = of_others
    return found
