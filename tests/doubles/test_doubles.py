"""The doubles of cloud key services, as the real sops meets them."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from doubles import moto_environment
from doubles.authority import open_authority
from doubles.aws import Aws, open_aws
from doubles.azure import Azure, open_azure
from doubles.gcp import open_gcp
from doubles.huawei import open_huawei
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, refusing_port, serving
from doubles.stranger import open_stranger
from doubles.vault import Vault, open_vault
from support.processes import python_environments
from support.processes.threads import own_threads

pytestmark = pytest.mark.e2e

PLAIN = b"greeting: hello\n"
DEADLINE_SECONDS = 60
NO_KEY_EXIT_CODE = 128
# So that what can't be reached is asked once.
ASK_ONCE = {"AWS_MAX_ATTEMPTS": "1", "VAULT_MAX_RETRIES": "0"}


@attrs.frozen
class Sops:
    """Runs sops with an environment made from nothing."""

    path: Path
    home: Path

    def encrypt(self, flag: str, key: str, environment: dict[str, str]) -> bytes:
        done = self._run(["encrypt", flag, key], environment, PLAIN)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def decrypt(self, data: bytes, environment: dict[str, str]) -> bytes:
        done = self._run(["decrypt"], environment, data)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def refusal(self, data: bytes, environment: dict[str, str]) -> str:
        """What sops says when it can't decrypt, unwrapped."""
        done = self._run(["decrypt"], environment | ASK_ONCE, data)
        assert done.returncode == NO_KEY_EXIT_CODE, (done.returncode, done.stderr.decode())
        return " ".join(done.stderr.decode().replace("|", " ").split())

    def start_decrypt(self, data: bytes, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [self.path, "decrypt", "--input-type", "yaml", "--output-type", "yaml"],
            env=self._environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.close()
        return process

    def _run(self, command: list[str], environment: dict[str, str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        name, *flags = command
        file = ["/dev/stdin"] if name == "encrypt" else []
        return subprocess.run(
            [self.path, name, "--input-type", "yaml", "--output-type", "yaml", *flags, *file],
            env=self._environment(environment),
            input=data,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def _environment(self, environment: dict[str, str]) -> dict[str, str]:
        return {"HOME": str(self.home), **environment}


@pytest.fixture
def sops(tools: dict[str, Path], tmp_path: Path) -> Sops:
    return Sops(tools["sops"], tmp_path)


@pytest.fixture(scope="module")
def shared_aws() -> Iterator[Aws]:
    with open_aws() as aws:
        yield aws


@pytest.fixture
def aws(shared_aws: Aws) -> Aws:
    """moto takes a second to start; its switches and records are as new for each test."""
    shared_aws.requests.clear()
    shared_aws.askers.clear()
    shared_aws.deny = shared_aws.deny_roles = False
    shared_aws.throttle = shared_aws.unavailable = shared_aws.break_connection = shared_aws.silent = False
    return shared_aws


@pytest.fixture
def vault() -> Iterator[Vault]:
    with open_vault() as vault:
        yield vault


@pytest.fixture
def azure() -> Iterator[Azure]:
    with open_azure() as azure:
        yield azure


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# AWS


def test_aws_opens_what_it_sealed_and_knows_who_asked(sops: Sops, aws: Aws) -> None:
    sealed = sops.encrypt("--kms", aws.create_key(), aws.environment())
    assert sops.decrypt(sealed, aws.environment()) == PLAIN
    assert aws.askers == [aws.user.arn, aws.user.arn]
    assert [request.headers["x-amz-target"] for request in aws.requests] == [
        "TrentService.Encrypt",
        "TrentService.Decrypt",
    ]


def test_aws_binds_a_data_key_to_its_encryption_context(sops: Sops, aws: Aws) -> None:
    key = aws.create_key()
    done = sops._run(["encrypt", "--kms", key, "--encryption-context", "team:blue"], aws.environment(), PLAIN)
    assert sops.decrypt(done.stdout, aws.environment()) == PLAIN
    assert "InvalidCiphertextException" in sops.refusal(done.stdout.replace(b"blue", b"red"), aws.environment())


def test_aws_lets_a_role_open_what_is_kept_for_it(sops: Sops, aws: Aws) -> None:
    role = aws.create_role("opener")
    key = aws.create_key(only=[role])
    sealed = sops.encrypt("--kms", f"{key}+{role}", aws.environment())
    aws.askers.clear()
    assert sops.decrypt(sealed, aws.environment()) == PLAIN
    assert aws.askers[0] == aws.user.arn
    assert (aws.askers[1] or "").startswith("arn:aws:sts::123456789012:assumed-role/opener/")
    assert "AccessDeniedException" in sops.refusal(sealed.replace(b"role:", b"other:"), aws.environment())


def test_aws_gives_a_role_for_a_token_of_the_web(sops: Sops, aws: Aws, tmp_path: Path) -> None:
    role = aws.create_role("pod", web_identity_token="token of a pod")
    sealed = sops.encrypt("--kms", aws.create_key(only=[role, aws.user.arn]), aws.environment())
    token = tmp_path / "token"
    token.write_text("token of a pod")
    environment = {name: value for name, value in aws.environment().items() if "KEY" not in name}
    environment |= {"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
    assert sops.decrypt(sealed, environment) == PLAIN
    token.write_text("token of another")
    assert "InvalidIdentityToken" in sops.refusal(sealed, environment)


def test_aws_refuses_what_is_not_signed_well(sops: Sops, aws: Aws) -> None:
    sealed = sops.encrypt("--kms", aws.create_key(), aws.environment())
    aws.askers.clear()
    assert "api error InvalidSignatureException" in sops.refusal(sealed, aws.wrong_environment())
    assert "api error UnrecognizedClientException" in sops.refusal(sealed, aws.unknown_environment())
    assert aws.askers == [None, None]


def test_aws_says_no(sops: Sops, aws: Aws) -> None:
    role = aws.create_role("never")
    key = aws.create_key()
    sealed = sops.encrypt("--kms", key, aws.environment())
    of_role = sops.encrypt("--kms", f"{key}+{role}", aws.environment())
    aws.deny = aws.deny_roles = True
    assert "api error AccessDeniedException" in sops.refusal(sealed, aws.environment())
    assert "failed to assume role" in sops.refusal(of_role, aws.environment())
    aws.deny = False
    aws.disable_key(key)
    assert "DisabledException" in sops.refusal(sealed, aws.environment())
    other = sealed.replace(key.encode(), aws.create_key().encode())
    assert "IncorrectKeyException" in sops.refusal(other, aws.environment())


def test_aws_can_be_unreachable_overloaded_and_broken(sops: Sops, aws: Aws) -> None:
    sealed = sops.encrypt("--kms", aws.create_key(), aws.environment())
    aws.throttle = True
    assert "ThrottlingException" in sops.refusal(sealed, aws.environment())
    aws.throttle, aws.unavailable = False, True
    assert "StatusCode: 503" in sops.refusal(sealed, aws.environment())
    aws.unavailable, aws.break_connection = False, True
    assert "connection reset by peer" in sops.refusal(sealed, aws.environment())
    with refusing_port() as port:
        elsewhere = {"AWS_ENDPOINT_URL_KMS": f"http://{LOOPBACK}:{port}"}
        assert "connection refused" in sops.refusal(sealed, aws.environment() | elsewhere)


def test_the_environment_of_moto_is_built_once_and_again_where_it_was_left_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[str] = []

    def run(*command: str | Path) -> None:
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)
            builds.append("made")
        elif len(builds) == 1:
            raise RuntimeError("interrupted")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(python_environments, "_run", run)
    with pytest.raises(RuntimeError, match="interrupted"):
        moto_environment.moto_python()
    callers = [threading.Thread(target=moto_environment.moto_python) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert builds == ["made", "made"]


# Vault


def test_vault_opens_what_it_sealed_and_records_the_token(sops: Sops, vault: Vault) -> None:
    token = vault.create_token(keys=["transit/keys/app"])
    sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
    assert sops.decrypt(sealed, vault.environment(token)) == PLAIN
    assert vault.tokens_seen == [vault.root_token, token]
    assert [request.path for request in vault.requests] == ["/v1/transit/encrypt/app", "/v1/transit/decrypt/app"]


def test_vault_speaks_tls_under_its_own_authority(sops: Sops) -> None:
    with open_vault(tls=True) as vault:
        sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
        assert sops.decrypt(sealed, vault.environment()) == PLAIN
        count = len(vault.requests)
        environment = {"VAULT_TOKEN": vault.root_token}
        assert "certificate signed by unknown authority" in sops.refusal(sealed, environment)
        assert len(vault.requests) == count


def test_vault_keeps_namespaces_apart(sops: Sops, vault: Vault) -> None:
    vault.create_key("app", namespace="team")
    token = vault.create_token(namespace="team")
    inside = vault.environment(token, namespace="team")
    sealed = sops.encrypt("--hc-vault-transit", f"{vault.address}/v1/transit/keys/app", inside)
    assert sops.decrypt(sealed, inside) == PLAIN
    assert "Code: 403" in sops.refusal(sealed, vault.environment(token))
    assert "Code: 404" in sops.refusal(sealed, vault.environment())


def test_vault_refuses_tokens_that_are_wrong_narrow_expired_or_revoked(sops: Sops) -> None:
    now = 0.0
    with open_vault(clock=lambda: now) as vault:
        sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
        narrow = vault.create_token(keys=["transit/keys/other"])
        leased = vault.create_token(lease_seconds=60)
        for environment in (vault.wrong_environment(), {}, vault.environment(narrow)):
            assert "Code: 403. Errors: * permission denied" in sops.refusal(sealed, environment)
        assert sops.decrypt(sealed, vault.environment(leased)) == PLAIN
        assert vault.live_tokens() == [narrow, leased]
        now = 60.0
        assert "Code: 403" in sops.refusal(sealed, vault.environment(leased))
        vault.revoke(narrow)
        assert vault.live_tokens() == []
        vault.deny = True
        assert "Code: 403" in sops.refusal(sealed, vault.environment())


def test_vault_tells_a_bad_ciphertext_and_a_missing_key(sops: Sops, vault: Vault) -> None:
    sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
    damaged = sealed.replace(b"vault:v1:", b"vault:v1:AAAA")
    assert "Code: 400. Errors: * cipher: message authentication failed" in sops.refusal(damaged, vault.environment())
    vault.create_key("other")
    vault.delete_key("app")
    assert "Code: 400. Errors: * encryption key not found" in sops.refusal(sealed, vault.environment())


def test_vault_can_be_unreachable_overloaded_and_broken(sops: Sops, vault: Vault) -> None:
    sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
    vault.throttle = True
    assert "Code: 429" in sops.refusal(sealed, vault.environment())
    vault.throttle, vault.unavailable = False, True
    assert "Code: 503. Errors: * Vault is sealed" in sops.refusal(sealed, vault.environment())
    vault.unavailable, vault.break_connection = False, True
    assert "connection reset by peer" in sops.refusal(sealed, vault.environment())
    vault.break_connection, vault.silent = False, True
    environment = vault.environment() | {"VAULT_CLIENT_TIMEOUT": "1"}
    assert "context deadline exceeded" in sops.refusal(sealed, environment)
    with refusing_port() as port:
        elsewhere = sealed.replace(vault.address.encode(), f"http://{LOOPBACK}:{port}".encode())
        assert "connection refused" in sops.refusal(elsewhere, vault.environment())


def test_vault_logs_in_by_approle_and_kubernetes(vault: Vault) -> None:
    role_id, secret_id = vault.create_app_role(keys=["transit/keys/app"], mount="ci/approle", lease_seconds=30)
    vault.create_kubernetes_role("jiemi", ["token of a pod"], lease_seconds=90)
    status, body = ask(vault, "POST", "/v1/auth/ci/approle/login", {"role_id": role_id, "secret_id": secret_id})
    assert (status, body["auth"]["lease_duration"], body["auth"]["renewable"]) == (200, 30, True)
    vault.create_key("app")
    vault.create_key("other")
    token = str(body["auth"]["client_token"])
    plaintext = {"plaintext": "AAAA"}
    assert ask(vault, "PUT", "/v1/transit/encrypt/app", plaintext, token)[0] == 200
    assert ask(vault, "PUT", "/v1/transit/encrypt/other", plaintext, token)[0] == 403
    assert ask(vault, "GET", "/v1/auth/token/lookup-self", None, token)[1]["data"]["renewable"] is True
    assert ask(vault, "POST", "/v1/auth/token/renew-self", {}, token)[1]["auth"]["lease_duration"] == 30
    assert ask(vault, "POST", "/v1/auth/token/revoke-self", {}, token)[0] == 204
    assert ask(vault, "PUT", "/v1/transit/encrypt/app", plaintext, token)[0] == 403

    pod = {"role": "jiemi", "jwt": "token of a pod"}
    assert ask(vault, "POST", "/v1/auth/kubernetes/login", pod)[1]["auth"]["lease_duration"] == 90
    assert vault.logins == 2
    refused: list[tuple[str, dict[str, str], int]] = [
        ("ci/approle", {"role_id": role_id, "secret_id": "x"}, 400),
        ("approle", {"role_id": role_id, "secret_id": secret_id}, 400),
        ("kubernetes", {"role": "jiemi", "jwt": "x"}, 403),
        ("kubernetes", {"role": "x", "jwt": "token of a pod"}, 400),
    ]
    for mount, login, status in refused:
        assert ask(vault, "POST", f"/v1/auth/{mount}/login", login)[0] == status
    vault.expire_tokens()
    assert vault.live_tokens() == []


# Google Cloud


def test_gcp_opens_what_it_sealed_for_an_assertion_or_a_token(sops: Sops) -> None:
    with open_gcp() as gcp:
        sealed = sops.encrypt("--gcp-kms", gcp.create_key("app"), gcp.environment())
        assert sops.decrypt(sealed, gcp.environment()) == PLAIN
        assert gcp.token_requests == 2
        token = gcp.create_token()
        assert sops.decrypt(sealed, gcp.token_environment(token)) == PLAIN
        assert gcp.token_requests == 2
        assert gcp.bearers[-1] == token


def test_gcp_refuses_wrong_credentials_and_accounts_that_a_key_is_not_kept_for(sops: Sops) -> None:
    with open_gcp() as gcp:
        other = gcp.create_account("other")
        sealed = sops.encrypt("--gcp-kms", gcp.create_key("app", only=[gcp.account]), gcp.environment())
        gcp.bearers.clear()
        assert "Invalid JWT Signature." in sops.refusal(sealed, gcp.wrong_environment())
        assert gcp.bearers == []
        assert "Error 401" in sops.refusal(sealed, gcp.token_environment("ya29.nobody-issued-this"))
        assert "Error 401" in sops.refusal(sealed, gcp.token_environment(gcp.create_token(lease_seconds=-1)))
        assert "Error 403: Permission" in sops.refusal(sealed, gcp.environment(other))
        gcp.deny = True
        assert "Error 403: Permission" in sops.refusal(sealed, gcp.environment())


def test_gcp_tells_a_bad_ciphertext_and_a_missing_key(sops: Sops) -> None:
    with open_gcp() as gcp:
        key = gcp.create_key("app")
        sealed = sops.encrypt("--gcp-kms", key, gcp.environment())
        other = sealed.replace(key.encode(), gcp.create_key("other").encode())
        assert "Error 400: Decryption failed" in sops.refusal(other, gcp.environment())
        gcp.delete_key(key)
        assert "Error 404: CryptoKey" in sops.refusal(sealed, gcp.environment())


def test_gcp_can_be_unreachable_overloaded_and_broken(sops: Sops) -> None:
    with open_gcp() as gcp:
        sealed = sops.encrypt("--gcp-kms", gcp.create_key("app"), gcp.environment())
        token = gcp.token_environment(gcp.create_token())
        gcp.throttle = True
        assert "Error 429" in sops.refusal(sealed, token)
        # KMS itself is asked for a minute then; the token endpoint only once.
        gcp.throttle, gcp.unavailable = False, True
        assert "cannot fetch token: 503" in sops.refusal(sealed, gcp.environment())
        gcp.unavailable, gcp.break_connection = False, True
        assert "connection reset by peer" in sops.refusal(sealed, token)
        with refusing_port() as port:
            elsewhere = {"SOPS_GCP_KMS_ENDPOINT": f"http://{LOOPBACK}:{port}"}
            assert "connection refused" in sops.refusal(sealed, token | elsewhere)


# Azure


def test_azure_opens_what_it_sealed_for_each_kind_of_credential(sops: Sops, azure: Azure) -> None:
    key = azure.create_key("app")
    sealed = sops.encrypt("--azure-kv", key, azure.environment())
    assert sops.decrypt(sealed, azure.environment()) == PLAIN
    assert sops.decrypt(sealed, azure.certificate_environment()) == PLAIN
    assert sops.decrypt(sealed, azure.federated_environment()) == PLAIN
    assert azure.token_requests == 4
    # Each process asks once without a token, to be told where to get one.
    assert [bearer is None for bearer in azure.bearers] == [True, False] * 4
    assert azure.refused_hosts == []


def test_azure_finds_the_version_of_a_key(sops: Sops, azure: Azure) -> None:
    key, _, version = azure.create_key("app").rpartition("/")
    assert version.encode() in sops.encrypt("--azure-kv", key, azure.environment())


def test_azure_refuses_wrong_credentials(sops: Sops, azure: Azure) -> None:
    sealed = sops.encrypt("--azure-kv", azure.create_key("app"), azure.environment())
    azure.bearers.clear()
    unknown = {"AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000"}
    for environment, code in (
        (azure.wrong_environment(), "AADSTS7000215"),
        (azure.wrong_certificate_environment(), "AADSTS700027"),
        (azure.wrong_federated_environment(), "AADSTS700027"),
        (azure.federated_environment(azure.create_federated_token("another")), "AADSTS700027"),
        (azure.environment() | unknown, "AADSTS700016"),
    ):
        assert code in sops.refusal(sealed, environment)
    assert set(azure.bearers) == {None}


def test_azure_says_no_and_tells_a_bad_ciphertext_and_a_missing_key(sops: Sops, azure: Azure) -> None:
    sealed = sops.encrypt("--azure-kv", azure.create_key("app"), azure.environment())
    azure.deny = True
    assert "ERROR CODE: Forbidden" in sops.refusal(sealed, azure.environment())
    azure.deny = False
    azure.create_key("app")
    assert "ERROR CODE: KeyNotFound" in sops.refusal(sealed, azure.environment())
    other = azure.create_key("other").rpartition("/")
    ours = next(line.split()[-1] for line in sealed.splitlines() if b" version: " in line)
    swapped = sealed.replace(b"name: app\n", b"name: other\n").replace(ours, other[2].encode())
    assert "ERROR CODE: BadParameter" in sops.refusal(swapped, azure.environment())


def test_azure_leads_nowhere_else_and_records_who_was_wanted(sops: Sops, azure: Azure) -> None:
    sealed = sops.encrypt("--azure-kv", azure.create_key("app"), azure.environment())
    process = sops.start_decrypt(sealed.replace(b"jiemi.vault", b"other.vault"), azure.environment())
    try:
        wait_until(lambda: azure.refused_hosts)
    finally:
        process.kill()
        process.wait()
    assert set(azure.refused_hosts) == {"other.vault.azure.net:443"}
    with refusing_port() as port:
        connection = http.client.HTTPConnection(azure.proxy.removeprefix("http://"))
        connection.request("GET", f"http://{LOOPBACK}:{port}/")
        assert connection.getresponse().status == 403
        connection.close()
        assert azure.refused_hosts[-1] == f"{LOOPBACK}:{port}"


def test_azure_can_break_connections(sops: Sops, azure: Azure) -> None:
    sealed = sops.encrypt("--azure-kv", azure.create_key("app"), azure.environment())
    azure.requests.clear()
    azure.break_connection = True
    process = sops.start_decrypt(sealed, azure.environment())
    try:
        # The client tries four times in ten seconds.
        wait_until(lambda: len(azure.requests) == 2)
    finally:
        process.kill()
        process.wait()


def test_azure_as_a_strangers_vault_gets_no_token(sops: Sops, azure: Azure) -> None:
    sealed = sops.encrypt("--azure-kv", azure.create_key("app"), azure.environment())
    azure.strangers.add("vault.example")
    azure.requests.clear()
    azure.bearers.clear()
    stolen = sealed.replace(b"jiemi.vault.azure.net", b"vault.example")
    assert "doesn't match the requested domain" in sops.refusal(stolen, azure.environment())
    assert azure.bearers == [None]
    assert [(request.host, request.body) for request in azure.requests] == [("vault.example", b"")]


# Huawei Cloud


def test_huawei_opens_what_it_sealed_and_tells_the_project(sops: Sops) -> None:
    with open_huawei() as huawei:
        sealed = sops.encrypt("--hckms", huawei.create_key(), huawei.environment())
        assert sops.decrypt(sealed, huawei.environment()) == PLAIN
        assert huawei.askers == [huawei.user.access_key] * 2
        assert sops.decrypt(sealed, huawei.environment(project_id="")) == PLAIN
        assert huawei.requests[-2].path == "/v3/projects"
        assert huawei.askers == [huawei.user.access_key] * 4


def test_huawei_says_no_and_can_be_unreachable(sops: Sops) -> None:
    with open_huawei() as huawei:
        key = huawei.create_key()
        sealed = sops.encrypt("--hckms", key, huawei.environment())
        assert '"status_code":401' in sops.refusal(sealed, huawei.wrong_environment()).replace(" ", "")
        assert huawei.askers[-1] is None
        huawei.deny = True
        assert "KMS.0303" in sops.refusal(sealed, huawei.environment())
        huawei.deny, huawei.unavailable = False, True
        assert "APIGW.0201" in sops.refusal(sealed, huawei.environment())
        huawei.unavailable, huawei.throttle = False, True
        assert "APIGW.0308" in sops.refusal(sealed, huawei.environment())
        huawei.throttle, huawei.break_connection = False, True
        assert "connection reset by peer" in sops.refusal(sealed, huawei.environment())
        huawei.break_connection = False
        other = sealed.replace(key.encode(), huawei.create_key().encode())
        assert "KMS.0204" in sops.refusal(other, huawei.environment())
        huawei.disable_key(key)
        assert "KMS.0209" in sops.refusal(sealed, huawei.environment())
        with refusing_port() as port:
            region = next(name for name in huawei.environment() if "REGION" in name)
            elsewhere = huawei.environment() | {region: f"https://{LOOPBACK}:{port}"}
            assert "connection refused" in sops.refusal(sealed, elsewhere)


# The stranger, and what the doubles stand on


def test_the_stranger_hears_the_token_that_sops_gives_away(sops: Sops, vault: Vault) -> None:
    sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
    with open_stranger() as stranger:
        stolen = sealed.replace(vault.address.encode(), stranger.address.encode())
        allowed = vault.environment() | {"SOPS_HC_VAULT_ALLOWLIST": vault.address}
        assert "Allowlist does not allow" in sops.refusal(stolen, allowed)
        assert (stranger.connections, stranger.received) == (0, b"")
        done = sops._run(["decrypt"], vault.environment(), stolen)
        assert b"Could not decrypt value" in done.stderr  # it believed that the data key is zeros
        assert stranger.connections == 1
        assert stranger.saw(vault.root_token)
        assert not stranger.saw("something else")


def test_a_vault_that_redirects_makes_sops_give_its_token_to_a_stranger_unless_forbidden(
    sops: Sops, vault: Vault
) -> None:
    sealed = sops.encrypt("--hc-vault-transit", vault.create_key("app"), vault.environment())
    with open_stranger() as stranger:
        vault.redirect_to = stranger.address
        kept = vault.environment() | {"SOPS_HC_VAULT_ALLOWLIST": vault.address}
        assert "transit backend is empty" in sops.refusal(sealed, kept | {"VAULT_DISABLE_REDIRECTS": "true"})
        assert stranger.connections == 0
        sops._run(["decrypt"], kept, sealed)
        assert stranger.saw(vault.root_token)


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_stranger_knows_a_secret_in_base64_wherever_it_begins(before: str) -> None:
    with open_stranger() as stranger:
        connection = http.client.HTTPConnection(LOOPBACK, stranger.port)
        encoded = base64.b64encode(f"{before}the secret key of someone:and more".encode()).decode()
        connection.request("GET", "/", headers={"Authorization": f"Basic {encoded}"})
        assert connection.getresponse().status == 200
        connection.close()
        assert stranger.saw("the secret key of someone")
        assert not stranger.saw("the secret key of nobody!")


class _Faulty(Double):
    def answer(self, request: Request) -> Answer:
        raise LookupError(request.path)


def test_a_fault_of_a_double_fails_the_test_that_uses_it() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="/fault")), serving(_Faulty()) as port:
        connection = http.client.HTTPConnection(LOOPBACK, port)
        connection.request("GET", "/fault")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()


class _Echo(Double):
    def answer(self, request: Request) -> Answer:
        return json_answer(200, {"path": request.path})


def test_nothing_is_left_of_a_double_that_ended_amid_connections() -> None:
    before = own_threads()
    double = _Echo()
    with open_authority() as authority, serving(double, authority=authority, tls=True) as port:
        double.silent = True
        context = ssl.create_default_context(cadata=authority.pem)
        waiting = http.client.HTTPSConnection(LOOPBACK, port, context=context)
        waiting.request("GET", "/")
        silent = http.client.HTTPConnection(LOOPBACK, port)
        silent.connect()
        wait_until(lambda: len(double.requests) == 1)
    assert own_threads() - before == set()
    waiting.close()
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(LOOPBACK, port).connect()


def ask(
    vault: Vault, method: str, path: str, body: object, token: str | None = None
) -> tuple[int, dict[str, dict[str, object]]]:
    """A request to the double, as Jiemi's own client would send."""
    connection = http.client.HTTPConnection(vault.address.removeprefix("http://"))
    try:
        headers = {"X-Vault-Token": token} if token else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else {}
    finally:
        connection.close()
