"""Fixtures that every room's tests may use. `tests/` is on sys.path: `from fakes.kubernetes import …`."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "api_server",
    "controlplane_fixtures",
    "deploy_manifests",
    "e2e_lab",
    "log_fixtures",
    "real_helm",
    "real_kubectl",
]

# How long an example takes says how busy the machine is. What must be bounded is counted, in the tests themselves.
settings.register_profile("jiemi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jiemi")


_LONGEST_FIRST = (
    "e2e/test_many_credentials.py",
    "rpc/test_hostile_peers.py",
    "e2e/test_many_pgp_decryptions.py",
    "e2e/test_canary_providers.py",
    "e2e/test_memory_of_miwen.py",
    "e2e/test_faults.py",
    "e2e/test_canary_reconcile.py",
    "e2e/test_follow.py",
    "e2e/test_doing_nothing.py",
    "e2e/test_killed.py",
    "e2e/test_canary.py",
)
"""Files that take a minute and more, the longest first. A worker takes a whole file (`--dist loadfile`), so one that
comes last leaves the others idle; by itself pytest-xdist begins with the files that have the most tests
(`--no-loadscope-reorder` keeps it from that)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; all else stays in its order."""
    folder = Path(__file__).parent
    place = {folder / name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
