"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.e2e.lab import Lab, until

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-cli"
BIN = Path(sys.executable).parent


def _run(*arguments: object, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "jiemi"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[str]:
    """Two Decryptors, one in sync and one not; gives Krapao's address."""
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao()
    lab.start_miwen(address, NAMESPACE, "--alive-file", lab.folder / "alive")
    repository = lab.repository()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cli"}, "stringData": {"k": "v"}}
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps(secret))})
    lab.admin.apply(lab.decryptor(NAMESPACE, "good", repository.url)).ok()
    lab.admin.apply(lab.decryptor(NAMESPACE, "broken", repository.url, file="nothing.yaml")).ok()
    lab.until_synced(NAMESPACE, "good", revision)
    lab.until_reason(NAMESPACE, "broken", "FileNotFound")
    yield address
    lab.end_services()


def test_status_shows_each_decryptor_and_what_to_do(lab: Lab, running: str) -> None:
    done = _run("status", "-n", NAMESPACE, "--kubeconfig", lab.kubeconfig)
    assert done.returncode == 3, done.stderr
    lines = {line.split()[1]: line.split() for line in done.stdout.splitlines() if line.startswith(NAMESPACE + " ")}
    assert lines["good"][2] == "Sync"
    assert lines["broken"][2] == "NotSync"
    assert lines["broken"][-1] == "FileNotFound"
    assert f"{NAMESPACE}/broken: spec.source.fileToDecrypt: nothing.yaml" in done.stdout
    assert "Correct the path, or commit the file." in done.stdout


def test_status_ends_with_0_where_all_that_are_shown_are_ready(lab: Lab, running: str) -> None:
    done = _run("status", "good", "-n", NAMESPACE, "--kubeconfig", lab.kubeconfig)
    assert (done.returncode, done.stderr) == (0, "")
    assert "broken" not in done.stdout
    assert len(done.stdout.splitlines()) == 2, "a table of one, and no line of a log"


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_status_for_programs_has_every_field_of_the_status_and_nothing_of_the_spec(
    lab: Lab, running: str, form: str
) -> None:
    done = _run("status", "-n", NAMESPACE, "--kubeconfig", lab.kubeconfig, "-o", form)
    assert done.returncode == 3
    found = json.loads(done.stdout) if form == "json" else YAML(typ="safe", pure=True).load(done.stdout)
    broken, good = found["items"]
    assert (good["namespace"], good["name"], good["ready"], good["reason"]) == (NAMESPACE, "good", "True", "Synced")
    assert (broken["name"], broken["ready"], broken["reason"]) == ("broken", "False", "FileNotFound")
    assert broken["message"].startswith("spec.source.fileToDecrypt: nothing.yaml")
    for each in (good, broken):
        assert each["status"] == lab.status(NAMESPACE, each["name"])
    assert "AGE-SECRET-KEY" not in done.stdout
    assert "spec:" not in done.stdout


def test_status_looks_where_kubectl_looks(lab: Lab, running: str, tmp_path: Path) -> None:
    elsewhere = _run("status", "--kubeconfig", lab.kubeconfig)
    assert "no Decryptors in namespace default (-A: in all)" in elsewhere.stdout or "default " in elsewhere.stdout
    assert NAMESPACE not in elsewhere.stdout
    everywhere = _run("status", "-A", "--kubeconfig", lab.kubeconfig)
    assert re.search(rf"^{NAMESPACE} +good ", everywhere.stdout, re.MULTILINE)
    config = YAML(typ="safe", pure=True).load(Path(lab.kubeconfig).read_text())
    config["contexts"][0]["context"]["namespace"] = NAMESPACE
    own = tmp_path / "kubeconfig"
    own.write_text(json.dumps(config))
    assert re.search(rf"^{NAMESPACE} +good ", _run("status", KUBECONFIG=str(own)).stdout, re.MULTILINE)


@pytest.mark.parametrize("flags", [("-A", "-n", "x"), ("--watch", "-o", "json")])
def test_status_refuses_flags_that_do_not_go_together(lab: Lab, flags: tuple[str, ...]) -> None:
    done = _run("status", *flags, "--kubeconfig", lab.kubeconfig)
    assert done.returncode == 1
    assert all(
        flag in done.stderr
        for flag in ({"--all-namespaces", "--namespace"}, {"--watch", "--output json"})[flags[0] == "--watch"]
    )


def test_status_watch_shows_each_change_until_it_is_ended(lab: Lab, running: str) -> None:
    process = subprocess.Popen(
        [str(BIN / "jiemi"), "status", "--watch", "-n", NAMESPACE, "--kubeconfig", str(lab.kubeconfig)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    try:
        until(
            "the table is shown",
            lambda: any("REASON" in each for each in lines) and any("good" in each for each in lines),
        )
        repository = lab.repository({"README.md": b""})
        lab.admin.apply(lab.decryptor(NAMESPACE, "later", repository.url, file="nothing.yaml")).ok()
        until("a new one is shown", lambda: any("later" in each and "FileNotFound" in each for each in lines))
        until("with what to do", lambda: any(each.startswith(f"{NAMESPACE}/later: ") for each in lines))
        lab.delete_decryptor(NAMESPACE, "later")
        until("its end is shown", lambda: f"{NAMESPACE}/later is deleted\n" in lines, on_failure=lambda: lines)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
        reader.join()
        process.stdout.close()
    assert sum("good" in each for each in lines) == 1


def test_status_of_a_decryptor_that_is_not_there_says_so(lab: Lab, running: str) -> None:
    done = _run("status", "nobody", "-n", NAMESPACE, "--kubeconfig", lab.kubeconfig)
    assert done.returncode == 1
    assert "there is no Decryptor nobody" in done.stderr


def test_status_without_a_cluster_says_what_was_looked_for() -> None:
    done = _run("status", "--kubeconfig", "/nowhere/kubeconfig")
    assert done.returncode == 1
    assert "/nowhere/kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_a_kubectl_plugin() -> None:
    assert shutil.which("kubectl-jiemi", path=str(BIN)) is not None
    done = subprocess.run(
        [str(BIN / "kubectl-jiemi"), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "kubectl jiemi" in done.stdout


def test_the_probe_of_krapao_succeeds_only_where_it_answers(lab: Lab, running: str) -> None:
    assert _run("probe", "krapao", "--address", running).returncode == 0
    done = _run("probe", "krapao", "--address", f"unix:{lab.folder}/nothing.sock", "--timeout", "1s")
    assert done.returncode == 1
    assert "nothing.sock" in done.stderr


def test_the_probe_of_miwen_succeeds_only_while_its_file_is_touched(lab: Lab, running: str) -> None:
    alive = lab.folder / "alive"
    until("the file is touched", alive.exists)
    assert _run("probe", "miwen", "--alive-file", alive).returncode == 0
    old = lab.folder / "old"
    old.touch()
    os.utime(old, (time.time() - 100, time.time() - 100))
    done = _run("probe", "miwen", "--alive-file", old)
    assert done.returncode == 1
    assert re.search(r"was touched 10\d s ago", done.stderr)
    assert _run("probe", "miwen", "--alive-file", lab.folder / "none").returncode == 1


def test_tools_says_where_each_came_from(lab: Lab, tools: dict[str, Path]) -> None:
    done = _run("tools", "sops", "--sops", tools["sops"])
    assert done.returncode == 0, done.stderr
    assert "given" in done.stdout
    assert str(tools["sops"]) in done.stdout
    done = _run("tools", "sops", "--sops", "/nowhere/sops")
    assert done.returncode == 1
    assert "--sops" in done.stderr
    done = _run("tools", "kubectl")
    assert done.returncode == 1
    assert "there is no tool kubectl" in done.stderr


_UNIX = ("--state-dir", "{folder}/x", "--listen", "unix:{folder}/l")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["krapao", "--state-dir", "/proc/nothing", "--listen", "unix:{folder}/l"], "state folder"),
        (["krapao", "--state-dir", "{folder}/x", "--listen", "tcp:host:many"], "--listen"),
        (["krapao", *_UNIX, "--ssh-known-hosts", "/nowhere"], "--ssh-known-hosts /nowhere"),
        (["krapao", "--state-dir", "{folder}/x", "--allow-ambient-identity", "aws,huawei"], "'huawei' is none of aws"),
        (["krapao", *_UNIX, "--allow-vault-address", "vault:8200"], "--allow-vault-address"),
        (["krapao", *_UNIX, "--metrics-listen", "unix:/x"], "--metrics-listen: give host:port"),
        (["krapao", *_UNIX, "--metrics-listen", "192.0.2.1:1"], "--metrics-listen: can't listen"),
        (
            ["krapao", *_UNIX, "--allow-address", "10.0.0.1/8"],
            "--allow-address: '10.0.0.1/8' is no",
        ),
        (["krapao", *_UNIX, "--deny-address", "localhost"], "--deny-address: 'localhost' is no"),
        (["krapao", *_UNIX, "--http-proxy", "http://u:p@h:1"], "--http-proxy: it holds a user"),
        (["krapao", *_UNIX, "--http-proxy-file", "/nowhere"], "--http-proxy-file /nowhere"),
        (["krapao", *_UNIX, "--no-proxy", "h"], "--no-proxy needs --http-proxy"),
        (["krapao", *_UNIX, "--ca-bundle", "/dev/null"], "--ca-bundle /dev/null holds no"),
        (["miwen", "--krapao", "nonsense:", "--kubeconfig", "/dev/null"], "--krapao"),
        (["miwen", "--krapao", "unix:/x", "--kubeconfig", "/nowhere"], "/nowhere"),
        (["miwen", "--krapao", "unix:/x", "--interval", "soon"], "is no duration"),
        (["miwen", "--krapao", "unix:/x", "--session-secret", "s"], "outside of a Pod"),
        (
            ["miwen", "--krapao", "unix:/x", "--session-secret", "n/s", "--session-secret-file", "/f"],
            "exclude each other",
        ),
        (["run-all", "--cluster", "cloud"], "--cluster cloud"),
        (["run-all", "--cluster", "current"], "--cluster current"),
        (["run-all", "--cluster", "embedded", "--images", "/x"], "--images is for --cluster node"),
        (["run-all", "--cluster", "node", "--images", "/nowhere"], "there is no krapao.tar and no miwen.tar"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named_in_one_line(lab: Lab, arguments: list[str], message: str) -> None:
    filled = [each.replace("{folder}", str(lab.folder)) for each in arguments]
    done = _run(*filled, HOME="/nowhere", KUBECONFIG="")
    assert done.returncode in (1, 2), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_crd_prints_what_is_under_deploy() -> None:
    assert _run("crd").stdout == (Path(__file__).parents[2] / "deploy" / "crd.yaml").read_text()


def test_completion_can_be_shown_for_the_common_shells() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = _run("--show-completion", shell)
        assert done.returncode == 0, done.stderr
        assert "_JIEMI_COMPLETE" in done.stdout


def test_doctor_says_what_confines_the_processes_and_what_is_missing(lab: Lab) -> None:
    found = _run("doctor", "--sops", lab.tools["sops"], "--runtime-dir", lab.folder)
    assert found.returncode == 0, found.stderr
    lines = {line[:20].strip(): line[20:].split(maxsplit=1) for line in found.stdout.splitlines()}
    assert lines["sops"][0] == "ok"
    assert "3.13.3" in lines["sops"][1]
    for measure in ("network of openers", "seccomp", "landlock", "no new privileges", "runtime folder"):
        assert lines[measure][0] == "ok", found.stdout
    nowhere = str(lab.folder)
    missing = _run("doctor", "--runtime-dir", lab.folder, PATH=nowhere, XDG_CACHE_HOME=nowhere)
    assert missing.returncode == 1
    assert "missing: sops" in missing.stderr
    assert "`jiemi tools sops` gets one" in missing.stdout


def test_krapao_serves_its_counters_where_the_flag_says(lab: Lab) -> None:
    namespace = lab.namespace("e2e-metrics")
    service, address = lab.start_krapao("--metrics-listen", "127.0.0.1:0", name="metrics")
    lab.start_miwen(address, namespace)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}, "stringData": {"k": "v"}}
    repository = lab.repository()
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(json.dumps(secret))})
    lab.admin.apply(lab.decryptor(namespace, "m", repository.url)).ok()
    lab.until_synced(namespace, "m", revision)
    port = re.search(r'"address": "tcp:127\.0\.0\.1:(\d+)"', service.log_text())
    assert port is not None, service.log_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    assert 'jiemi_key_requests_total{outcome="opened",provider="age"} 1.0' in page
    assert 'jiemi_decryptions_total{outcome="ok"} 1.0' in page
    assert "jiemi_key_holders 1.0" in page
    lab.end_services()


def test_a_policy_that_can_not_be_read_keeps_miwen_from_starting(lab: Lab) -> None:
    policy = lab.folder / "policy.yaml"
    policy.write_text("rules: [{namespaces: [a], repository: [b]}]")
    arguments = ("miwen", "--krapao", "unix:/nowhere", "--kubeconfig", lab.kubeconfig, "--policy")
    done = _run(*arguments, policy)
    assert done.returncode == 1
    assert "unknown field repository @ rules[0]" in done.stderr
    assert "can't be read: No such file" in _run(*arguments, lab.folder / "nothing").stderr
