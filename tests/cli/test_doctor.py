"""What `jiemi doctor` says of Krapao's certificate, in its Pod and outside, and of a session secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.kubernetes.deploy_manifests import DEPLOY, read_yaml
from support.network.tls_folders import tls_pair

from jiemi.cli.doctor import TLS_IN_THE_POD, Finding, certificates, session_secret
from jiemi.rpc.tls_names import KEY

SECRET = "0123456789abcdef"


def look(folder: Path, text: str | None, *, mode: int = 0o400) -> Finding:
    """The finding about a file that a flag names."""
    file = folder / "secret"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    return session_secret(file)


def test_a_secret_is_found_and_not_shown(tmp_path: Path) -> None:
    found = look(tmp_path, SECRET)
    assert found.state == "ok"
    assert found.text == f"in {tmp_path / 'secret'}"


def test_several_secrets_are_counted(tmp_path: Path) -> None:
    assert look(tmp_path, f"{SECRET}\n{SECRET}2\n").text.startswith("2 in ")


def test_a_file_that_every_user_may_read_is_a_warning_with_what_to_type(tmp_path: Path) -> None:
    found = look(tmp_path, SECRET, mode=0o644)
    assert found.state == "warning"
    assert f"chmod o-r {tmp_path / 'secret'}" in found.text


@pytest.mark.parametrize(("text", "says"), [(None, "No such file"), ("short", "16 to 1024"), ("", "must hold")])
def test_a_file_that_krapao_would_not_start_with_is_missing(tmp_path: Path, text: str | None, says: str) -> None:
    found = look(tmp_path, text)
    assert found.state == "missing"
    assert says in found.text
    assert "short" not in found.text


def test_a_certificate_is_found_with_its_end_and_its_key_is_not_shown(tmp_path: Path) -> None:
    folder = tls_pair(tmp_path).krapao
    (folder / KEY).chmod(0o440)
    found = certificates(folder, in_the_pod=tmp_path / "none")
    assert found.state == "ok"
    assert f"in {folder}, until 2" in found.text
    (folder / KEY).chmod(0o644)
    assert f"chmod o-r {folder / KEY}" in certificates(folder).text
    (folder / KEY).write_text("canary")
    found = certificates(folder)
    assert (found.state, "canary" in found.text) == ("missing", False)
    assert "is no private key" in found.text


def test_without_a_flag_the_pods_certificate_is_looked_at(tmp_path: Path) -> None:
    mounted = tmp_path / "krapao-tls"
    assert certificates(None, in_the_pod=mounted).state == "warning"
    assert "--tls-dir" in certificates(None, in_the_pod=mounted).text
    tls_pair(tmp_path)
    (mounted / KEY).chmod(0o440)
    assert certificates(None, in_the_pod=mounted).state == "ok"


def test_krapaos_pod_has_its_certificate_where_doctor_looks() -> None:
    [stateful_set] = [each for each in read_yaml(DEPLOY / "repository.yaml") if each["kind"] == "StatefulSet"]
    [container] = stateful_set["spec"]["template"]["spec"]["containers"]
    assert f"--tls-dir={TLS_IN_THE_POD}" in container["args"]
