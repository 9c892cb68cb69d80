"""The image of the process that holds a Pod's namespaces: it only waits.

In clusters elsewhere it is `registry.k8s.io/pause`. Nothing can be pulled on this node, so it is made of this machine's
own `sleep` and the libraries that it needs. containerd ends it with SIGKILL, so it need not heed any signal.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import trio

from jiemi.controlplane import children
from jiemi.controlplane.node.arguments import SANDBOX_IMAGE
from jiemi.controlplane.node.image_archive import write_image
from jiemi.controlplane.node.isolation import SEARCH_PATH
from jiemi.controlplane.processes import ControlPlaneError

_LDD_SECONDS = 10.0
_LIBRARY = re.compile(r"(?:^|=> ?)\s*(/\S+) \(0x[0-9a-f]+\)$")


async def write_sandbox_image(to: Path) -> None:
    """Write the image's archive.

    Raises:
        ControlPlaneError: it can't be made on this machine.
    """
    program = shutil.which("sleep", path=SEARCH_PATH)
    ldd = shutil.which("ldd", path=SEARCH_PATH)
    if program is None or ldd is None:
        raise ControlPlaneError("there is no program sleep, or no ldd, on this machine")
    # A path that is the program's real one would lose the name by which one program of many tools knows what it is.
    paths = [program, *await libraries(ldd, program)]
    files = {path.removeprefix("/"): await trio.Path(path).read_bytes() for path in paths}
    write_image(to, SANDBOX_IMAGE, files, [program, "infinity"])


async def libraries(ldd: str, program: str) -> list[str]:
    """The paths of the libraries that a program is loaded with (ldd(1)); none for a static one.

    Raises:
        ControlPlaneError: ldd can't be run.
    """
    try:
        found = await children.run([ldd, program], environment={"PATH": SEARCH_PATH}, timeout_seconds=_LDD_SECONDS)
    except (OSError, TimeoutError) as error:
        raise ControlPlaneError(f"{ldd}: {error}") from error
    return [match[1] for line in found.lines if (match := _LIBRARY.search(line.strip())) is not None]
