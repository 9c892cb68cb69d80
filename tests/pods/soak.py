"""`just soak-pods [KILLS] [ROTATIONS]`: the churn of `pods_churn.py`, as often as one likes, with what it measured."""

from __future__ import annotations

import os
import sys

from pods import run


def main(arguments: list[str]) -> int:
    """Run it; returns pytest's exit status."""
    kills, rotations, *more = [*arguments, *("100", "10")[len(arguments) :]]
    os.environ |= {"JIEMI_PODS_KILLS": kills, "JIEMI_PODS_ROTATIONS": rotations}
    return run.main(["-s", *more], files="pods_churn.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
