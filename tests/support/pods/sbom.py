"""The list of what is in an image (an SBOM, in the form of CycloneDX), written by Syft.

Syft reads an image's archive and finds Debian's packages by dpkg's list, Python's by their metadata, and the Go modules
of a program by what Go writes into it. It is built once from its Go module (tests/data/syft), and asks nobody for
anything.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from support.kubernetes.go_programs import go_program
from support.paths import DATA, ROOT
from support.processes.python_environments import environment_python

SPECIFICATION = "1.6"
_SECONDS = 600
_CONSTRAINTS = ROOT / "tests" / "images" / "cyclonedx-constraints.txt"

_VALIDATE = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
version = SchemaVersion.from_version(sys.argv[1])
print(JsonStrictValidator(version).validate_str(pathlib.Path(sys.argv[2]).read_text()) or "valid")
"""


async def syft() -> Path:
    """The program."""
    package = "github.com/anchore/syft"
    version = re.search(rf"^\t{package} v(\S+)", (DATA / "syft" / "go.mod").read_text(), re.MULTILINE)
    assert version is not None
    # It says in each SBOM which version wrote it.
    return await go_program("syft", package=f"{package}/cmd/syft", ldflags=f"-s -w -X main.version={version[1]}")


def write_sbom(program: Path, archive: Path, image: str, version: str, to: Path) -> None:
    """Write the SBOM of an image.

    Args:
        program: Syft.
        archive: the image, in the format of `docker save`.
        image: its name, which stands in the SBOM in place of the archive's path.
        version: its tag.
        to: the file that is written.
    """
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [
                *(program, "scan", f"docker-archive:{archive}", "--quiet"),
                *("--source-name", image, "--source-version", version),
                *("--output", f"cyclonedx-json@{SPECIFICATION}={to}"),
            ],
            # Packages only: the thousands of files that belong to them are listed in the packages.
            env={
                "HOME": home,
                "TMPDIR": home,
                "SYFT_CHECK_FOR_APP_UPDATE": "false",
                "SYFT_FILE_METADATA_SELECTION": "none",
            },
            check=True,
            timeout=_SECONDS,
        )


def fault_of_sbom(sbom: Path) -> str | None:
    """What CycloneDX's own library finds wrong with an SBOM, by the schema of the specification; None: nothing."""
    python = environment_python("cyclonedx-python-lib", _CONSTRAINTS, ["cyclonedx-python-lib[json-validation]"])
    done = subprocess.run(
        [python, "-c", _VALIDATE, SPECIFICATION, sbom], capture_output=True, text=True, check=True, timeout=_SECONDS
    )
    return None if done.stdout == "valid\n" else done.stdout
