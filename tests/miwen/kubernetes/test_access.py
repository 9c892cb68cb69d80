"""The access of a pod: the mounted token, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.access import in_cluster


def test_outside_of_a_pod_the_message_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(JiemiError, match=r"KUBERNETES_SERVICE_HOST .* Give --kubeconfig"):
        in_cluster({}, directory=tmp_path)
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(JiemiError, match=r"no .*/ca\.crt: set automountServiceAccountToken"):
        in_cluster(pod, directory=tmp_path)


async def test_in_a_pod_the_mounted_token_is_used(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("authority")
    (tmp_path / "token").write_text("token")
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, directory=tmp_path)
    assert access.server == "https://[fd00::1]:443"
    token = await access.tokens.get()
    assert token is not None
    assert token.reveal() == "token"
