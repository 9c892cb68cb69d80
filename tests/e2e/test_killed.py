"""SIGKILL of Miwen in the middle of whatever it does; `just soak-kill` does it a hundred times."""

from __future__ import annotations

import pytest
from support.e2e import kill_churn
from support.e2e.lab import Lab

pytestmark = pytest.mark.e2e

KILLS = 8


def test_after_sigkill_the_cluster_ends_as_git_describes(lab: Lab) -> None:
    churn = kill_churn.start(lab, "e2e-killed", seed=6)
    churn.run(KILLS)
    assert churn.kills == KILLS
