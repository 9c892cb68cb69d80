"""Miwen does not send credentials over a network in plain text unless it is asked to, and says what to give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TCP = ("--krapao", "tcp:127.0.0.1:50208")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (TCP, "give --tls-secret"),
        ((*TCP, "--session-secret", "jiemi/s"), "give --tls-secret"),
        ((*TCP, "--make-certificates"), "--make-certificates needs --tls-secret"),
        ((*TCP, "--tls-dir", "/x", "--tls-secret", "jiemi/s"), "--tls-dir and --tls-secret exclude each other"),
        ((*TCP, "--tls-dir", "/x", "--insecure-plain-tcp"), "--tls-dir and --insecure-plain-tcp exclude each other"),
        ((*TCP, "--tls-secret", "s"), "--tls-secret s: outside of a Pod Miwen has no namespace of its own"),
        ((*TCP, "--tls-secret", "jiemi/No Name"), "nothing can have that name"),
        ((*TCP, "--tls-dir", "/x", "--lease", "l"), "--lease l: outside of a Pod Miwen has no namespace of its own"),
        ((*TCP, "--tls-secret", "a/b", "--make-certificates", "--certificate-lifetime", "59m"), "the shortest is 1h"),
    ],
)
def test_it_does_not_start_and_says_what_to_give(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: a, user: {}}]\n"
    )
    command = [sys.executable, "-m", "jiemi", "miwen", *arguments, "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
