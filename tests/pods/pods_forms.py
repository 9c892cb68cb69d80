"""Pods of each install form follow repositories, with the rights that the form says."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from pods.conftest import ROOT
from support.kubernetes.api_server import open_admin
from support.kubernetes.kubectl import Kubectl
from support.pods.churn import make_churn
from support.pods.cluster import program
from support.pods.running import until_rolled_out

from jiemi.controlplane.node.arguments import NODE_ADDRESS
from jiemi.controlplane.pins import Tool
from jiemi.demo.content import make_age_key
from jiemi.demo.git_server import serve_git

NAMESPACES = ("team-a", "team-b")
MIWEN = "--as=system:serviceaccount:jiemi:miwen"

_ACCOUNT = (
    ("create", "serviceaccount", "jiemi-apply"),
    (
        *("create", "role", "jiemi-apply", "--resource=secrets,configmaps"),
        "--verb=get,list,watch,create,patch,delete",
    ),
    ("create", "rolebinding", "jiemi-apply", "--role=jiemi-apply", "--serviceaccount=team-a:jiemi-apply"),
)
"""What docs/operations.md has a namespace do that takes part in the form by impersonation."""

MAY_WRITE_ELSEWHERE = {"namespaces": False, "impersonation": False, "anything": True}
MAY_WRITE_IN_TEAM_A = {"namespaces": True, "impersonation": False, "anything": True}


@pytest.mark.parametrize("form", ["namespaces", "impersonation", "anything"])
async def test_pods_of_each_install_form_follow_repositories(form: str, installed: Kubectl, tmp_path: Path) -> None:
    team_a = attrs.evolve(installed, namespace="team-a")
    for namespace in NAMESPACES:
        installed("create", "namespace", namespace)
    # `apply` leaves what the form that was there before has and this one has not.
    installed("delete", "clusterrolebinding", "jiemi-miwen", "jiemi-miwen-extra")
    attrs.evolve(installed, namespace="")("apply", "-k", str(ROOT / "install" / form))
    if form == "impersonation":
        for command in _ACCOUNT:
            team_a(*command)
    until_rolled_out(installed)
    for namespace, expected in (("default", MAY_WRITE_ELSEWHERE[form]), ("team-a", MAY_WRITE_IN_TEAM_A[form])):
        answer = attrs.evolve(installed, namespace=namespace)(
            "auth", "can-i", "patch", "secrets", MIWEN, status=0 if expected else 1
        )
        assert answer.strip() == ("yes" if expected else "no")
    api, close = open_admin(installed.kubeconfig)
    served = tmp_path / "git"
    served.mkdir()
    async with serve_git(served, host=NODE_ADDRESS) as server:
        key = make_age_key(tmp_path / "key")
        churn = make_churn(team_a, api, installed, server, tmp_path, key, program(Tool.SOPS))
        churn.start()
        churn.settle()
        churn.commit_some()
        churn.settle()
        # Drift is seen and corrected.
        name = next(iter(churn.wanted()))
        team_a("delete", "secret", name)
        churn.settle()
        assert name in churn.live()
        team_a("delete", "decryptors", "--all")
    close()
    for namespace in NAMESPACES:
        installed("delete", "namespace", namespace)
    bindings = ("jiemi-miwen-anything", "jiemi-miwen-impersonation")
    installed("delete", "clusterrolebinding", *bindings, "--ignore-not-found")
    installed("apply", "-k", str(ROOT / "deploy"))
    until_rolled_out(installed)
