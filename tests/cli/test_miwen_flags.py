"""Flags of `jiemi miwen` that lift or set a bound: a slip keeps Miwen from starting."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from jiemi.cli.main import app
from jiemi.miwen.kubernetes.access import pods_namespace


def miwen(*flags: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["miwen", "--krapao", "unix:/nowhere.sock", *flags])
    return found.exit_code, found.output


@pytest.mark.parametrize(
    "name", ["Decryptor.jiemi.cr", "Secret", "namespace/jiemi", "ClusterRoleBinding.rbac.authorization.k8s.io", "*"]
)
def test_what_can_not_be_opened_keeps_miwen_from_starting(name: str) -> None:
    status, output = miwen("--allow-protected", "namespace/kube-system", "--allow-protected", name)
    assert status == 1
    assert f"--allow-protected {name}: " in output


@pytest.mark.parametrize("flag", ["--own-namespace", "--namespace"])
@pytest.mark.parametrize("name", ["", "Jiemi", "jiemi,tools", "jiemi ", "jiemi/miwen", "*"])
def test_a_namespace_that_nobody_can_have_keeps_miwen_from_starting(flag: str, name: str) -> None:
    status, output = miwen("--kubeconfig", "/nowhere", flag, name)
    assert status == 1
    assert f"{flag}: no namespace can have that name" in " ".join(output.split())


def test_one_name_among_several_that_nobody_can_have_keeps_miwen_from_starting() -> None:
    status, output = miwen("--kubeconfig", "/nowhere", "--namespace", "team-a", "--namespace", "team,b")
    assert status == 1
    assert "--namespace: no namespace can have that name" in " ".join(output.split())


def test_the_pod_says_where_jiemi_runs(tmp_path: Path) -> None:
    assert pods_namespace(tmp_path) is None
    (tmp_path / "namespace").write_text("")
    assert pods_namespace(tmp_path) is None
    (tmp_path / "namespace").write_text("tools\n")
    assert pods_namespace(tmp_path) == "tools"


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--webhooks-listen", "unix:/x"), "--webhooks-listen: give host:port"),
        (("--webhooks-listen", "127.0.0.1"), "--webhooks-listen: give host:port"),
        (("--webhooks-listen", "h:70000"), "--webhooks-listen: "),
        (("--webhooks-listen", "*:8080", "--webhooks-address", "no address"), "--webhooks-address: "),
        (("--webhooks-proxies", "1"), "need --webhooks-listen"),
        (("--webhooks-address", "10.0.0.1"), "need --webhooks-listen"),
    ],
)
def test_a_port_for_webhooks_that_can_not_be_keeps_miwen_from_starting(flags: tuple[str, ...], what: str) -> None:
    status, output = miwen("--kubeconfig", "/nowhere", *flags)
    assert status == 1
    assert what in " ".join(output.split())
