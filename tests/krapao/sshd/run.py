"""`just test-sshd`: ssh against OpenSSH's own server, as root on Debian or Ubuntu; says what it needs elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.network.openssh import DEBIAN_PACKAGES, missing_requirements

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Run the tests; returns pytest's exit status.

    Args:
        arguments: for pytest, beside the files; `--packages` alone only prints which Debian packages this needs.
    """
    packages = " ".join(DEBIAN_PACKAGES)
    if arguments == ["--packages"]:
        print(packages)
        return 0
    missing = missing_requirements()
    if missing:
        print(
            f"OpenSSH's server can't be run here: this machine lacks {'; '.join(missing)}.\n"
            f"On Debian or Ubuntu: sudo apt-get install --no-install-recommends {packages}\n"
            "With the package, Debian starts an ssh server on this machine, which the tests do not need "
            "(`systemctl disable --now ssh` ends it).",
            file=sys.stderr,
        )
        return 2
    files = [str(path) for path in sorted(HERE.glob("sshd_*.py"))]
    return subprocess.run([sys.executable, "-m", "pytest", *files, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
