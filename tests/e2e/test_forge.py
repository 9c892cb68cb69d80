"""A real forge (Gitea): its repositories over http and ssh, with keys of every type, and its own webhooks."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat
from krapao.git.clone_checks import HEAD
from support.e2e.lab import Lab, until
from support.e2e.scene import METRICS, metrics_page, secret
from support.krapao.ssh_keys import made, written
from support.krapao.work_tree import Work
from support.metrics_pages import total
from support.network.addresses import LOOPBACK
from support.network.forge import PASSWORD, Forge, forge
from support.webhooks.delivery import webhooks_port
from support.webhooks.requests import SECRET

from jiemi.cli.main import app
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-forge"


@pytest.fixture(scope="module")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forge(tmp_path_factory.mktemp("forge") / "gitea") as running:
        yield running


def push(work: Work, forge: Forge, name: str, *refs: str) -> None:
    work.git("push", "--quiet", "--force", forge.url_to_push(name), *(refs or ("HEAD:refs/heads/main",)))


def read(folder: Path, url: str, credentials: GitCredentials, ref: Ref = HEAD) -> str:
    """What is in the file x of what is followed."""
    folder.mkdir(exist_ok=True)
    settings = KrapaoSettings(state_dir=folder, addresses=LOOPBACK)

    async def ask() -> str:
        async with Clones(settings).open(parse_url(url), credentials) as store:
            found = await store.advertised(ref)
            await store.fetch(found)
            return (await store.read(found.revision, "x", max_bytes=100)).decode()

    return trio.run(ask)


def known_hosts(forge: Forge) -> str:
    """As users have them: by `jiemi known-hosts`."""
    done = CliRunner().invoke(app, ["known-hosts", f"127.0.0.1:{forge.ssh_port}"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_private_repository_is_followed_over_http_with_a_token_and_not_without(gitea: Forge, tmp_path: Path) -> None:
    url, work = gitea.create("by-token"), Work(tmp_path / "work")
    token = GitCredentials(username=SensitiveText("me"), token=SensitiveText(gitea.token("by-token")))
    for content in ("one", "two"):
        work.commit({"x": content})
        work.git("tag", "-f", "-a", "v1", "-m", "tag")
        push(work, gitea, "by-token", "HEAD:refs/heads/main", "v1")
        for ref in (HEAD, Ref(branch="main"), Ref(tag="v1")):
            assert read(tmp_path / "state", url, token, ref) == content
    for given, reason in (
        (GitCredentials(), "RepositoryAccessDenied"),
        (GitCredentials(username=SensitiveText("me"), token=SensitiveText("canary")), "RepositoryAccessDenied"),
    ):
        with pytest.raises(JiemiError) as caught:
            read(tmp_path / "other", url, given)
        assert caught.value.failure.reason == reason
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa-384", "ecdsa-521", "rsa"])
def test_a_private_repository_is_followed_over_ssh_with_a_deploy_key_of_each_type(
    gitea: Forge, tmp_path: Path, kind: str
) -> None:
    name, work, key = f"by-{kind}", Work(tmp_path / "work"), made(kind)
    gitea.create(name)
    gitea.add_deploy_key(name, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    hosts = SensitiveText(known_hosts(gitea))
    given = GitCredentials(ssh=SensitiveText(written(key, PrivateFormat.OpenSSH)), known_hosts=hosts)
    for content in ("one", "two"):
        work.commit({"x": content})
        push(work, gitea, name)
        assert read(tmp_path / "state", gitea.ssh_url(name), given) == content
    stranger = GitCredentials(ssh=SensitiveText(written(made(kind), PrivateFormat.OpenSSH)), known_hosts=hosts)
    with pytest.raises(JiemiError) as caught:
        read(tmp_path / "other", gitea.ssh_url(name), stranger)
    assert caught.value.failure.reason == "RepositoryAccessDenied"


def test_a_push_to_the_forge_is_in_the_cluster_by_its_own_webhook(gitea: Forge, lab: Lab, tmp_path: Path) -> None:
    lab.namespace(NAMESPACE)
    url, work = gitea.create("app"), Work(tmp_path / "work")

    def commit(value: str) -> None:
        work.commit({"secret.enc.yaml": lab.encrypt(json.dumps(secret("app", value=value)))})
        push(work, gitea, "app")

    commit("first")
    _, address = lab.start_krapao(name="forge")
    miwen = lab.start_miwen(address, NAMESPACE, "--webhooks-listen", "127.0.0.1:0", *METRICS, interval="1h")
    try:
        credentials = {"username": {"literal": "me"}, "token": {"literal": gitea.token("app")}}
        lab.admin.apply(lab.decryptor(NAMESPACE, "app", url, repository={"credentials": credentials})).ok()
        hook = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hook", "namespace": NAMESPACE, "labels": {"jiemi.cr/webhook": "gitea"}},
            "data": {"token": base64.b64encode(SECRET.encode()).decode()},
        }
        lab.admin.apply(hook).ok()
        until("it is deployed", lambda: lab.data(NAMESPACE, "app") == {"value": "first"}, on_failure=lab.logs)
        until("the webhook is there", lambda: total(metrics_page(miwen), "jiemi_webhooks") == 1, on_failure=lab.logs)
        gitea.add_webhook("app", f"http://127.0.0.1:{webhooks_port(miwen)}/webhooks/{NAMESPACE}/hook", SECRET)
        took = []
        for number in range(3):
            began = time.monotonic()
            commit(f"v{number}")
            wanted = {"value": f"v{number}"}
            until("it is deployed", lambda wanted=wanted: lab.data(NAMESPACE, "app") == wanted, on_failure=lab.logs)  # type: ignore[misc]
            took.append(round(time.monotonic() - began, 2))
        sys.stderr.write(f"\nfrom the push to the Secret: {took} (seconds)\n")
        assert total(metrics_page(miwen), "jiemi_webhook_requests_total", outcome="push") >= 3
        assert PASSWORD not in miwen.log_text()
    finally:
        lab.end_services()
