"""Virtual environments in the user's cache, for packages of tests whose dependencies are not Jiemi's.

Each is made once for each version of Python and of its pinned packages. It is built in its own place, as such
environments can't be moved; a marker that is written last marks a finished one, and a lock lets one process build while
the others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_BUILD_SECONDS = 600


def environment_python(name: str, constraints: Path, packages: Sequence[str]) -> Path:
    """The interpreter of an environment, which is built where it is missing or was left half done.

    Args:
        name: the package after which it is called; its version is that of the constraints.
        constraints: the file with the version of each package, for pip.
        packages: what is installed.
    """
    pins = constraints.read_text()
    version = re.search(rf"^{re.escape(name)}==(\S+)$", pins, re.MULTILINE)
    assert version is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jiemi"
    environment = cache / f"{name}-{version[1]}-py{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = environment / "bin" / "python"
    marker = environment / "complete"
    # Also of this Python: an environment is broken when the interpreter that made it is gone.
    wanted = hashlib.sha256(f"{pins}{Path(sys.executable).resolve()}".encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    with environment.with_name(f"{environment.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists() or marker.read_text() != wanted:
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", environment)
            _run(
                interpreter, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
                "--constraint", constraints, *packages,
            )  # fmt: skip
            marker.write_text(wanted)
    return interpreter


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_BUILD_SECONDS)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"the environment could not be made:\n{error.stderr}") from error
