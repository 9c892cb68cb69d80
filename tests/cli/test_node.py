"""What `jiemi run-all --cluster node` says where it can't run."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiemi.cli.command_flags import RunAllFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.node import require_node
from jiemi.controlplane.node import images, isolation


@pytest.fixture
def built(tmp_path: Path) -> Path:
    for name in images.NAMES:
        (tmp_path / f"{name}.tar").touch()
    return tmp_path


def test_what_the_machine_lacks_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, built: Path
) -> None:
    monkeypatch.setattr(isolation, "missing_requirements", lambda: ["root", "the programs ctr, nft"])
    monkeypatch.setattr(images, "missing_programs", lambda: ["buildah"])
    with pytest.raises(CommandError) as caught:
        require_node(RunAllFlags(cluster="node"))
    first, second = str(caught.value).splitlines()
    assert "Pods can't be run here: this machine lacks root; the programs ctr, nft; " in first
    assert first.endswith("the program buildah, which builds the images (--images takes built ones).")
    assert second.startswith("On Debian or Ubuntu, as root: apt-get install --no-install-recommends containerd ")
    assert second.endswith(" buildah")
    with pytest.raises(CommandError) as caught:
        require_node(RunAllFlags(cluster="node", images=built))
    assert "buildah" not in str(caught.value)


def test_a_machine_with_everything_is_taken(monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    monkeypatch.setattr(isolation, "missing_requirements", list)
    monkeypatch.setattr(images, "missing_programs", lambda: ["buildah"])
    require_node(RunAllFlags(cluster="node", images=built))
    (built / "miwen.tar").unlink()
    with pytest.raises(CommandError, match=r"there is no miwen\.tar"):
        require_node(RunAllFlags(cluster="node", images=built))
