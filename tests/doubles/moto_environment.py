"""A virtual environment for moto, since moto's dependencies and Jiemi's disagree."""

from __future__ import annotations

from pathlib import Path

from support.processes.python_environments import environment_python

# What `moto[server]` adds to moto is for services that are not played here, but for these two.
_PACKAGES = ("moto", "flask", "flask-cors")


def moto_python() -> Path:
    """The interpreter of the environment."""
    return environment_python("moto", Path(__file__).with_name("moto-constraints.txt"), _PACKAGES)
