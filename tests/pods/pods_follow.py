"""Pods of deploy/ as it is shipped follow a repository."""

from __future__ import annotations

from support.kubernetes.kubectl import Kubectl


async def test_both_pods_are_ready(installed: Kubectl) -> None:
    assert installed("get", "pods").count("1/1") == 2
