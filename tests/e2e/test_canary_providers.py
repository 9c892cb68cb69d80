"""No credential of a key service and no plaintext is found where it must not be, with any provider and any end.

One run of everything gathers the evidence, while the services run and afterwards: decryptions that succeed, and such
that fail by a wrong key, a denial, an outage, a changed file and a destination that is refused. Each test looks at one
place. The values are canaries: unmistakable, and searched for as they are, in base64 and in hexadecimal.
"""

from __future__ import annotations

import base64
import json
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from doubles.aws import Aws
from doubles.azure import Azure
from doubles.gcp import Gcp
from doubles.huawei import AccessKey, Huawei
from doubles.vault import Vault, open_vault
from pyrage import x25519
from support.canaries.disk_search import contents, new_files_of_the_machine
from support.canaries.environments import Process, Watcher
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, Repository
from support.e2e.providers import (
    Services,
    in_secret,
    literals,
    new_pgp_key,
    open_pgp_recipient,
    open_services,
    operator_environment,
    provider_of,
    temporary_credentials,
)
from support.e2e.scene import METRICS, metrics_page
from support.krapao.key_services import KeyService, secret
from support.paths import DATA

from jiemi.core.errors import JiemiError
from jiemi.rpc.address import parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, PgpKey, VaultKey
from jiemi.rpc.source import GitCredentials, Source

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-canary-providers"
PLAIN = "canary-plaintext-2b9e61"
CLOUDS = ("aws", "azure", "gcp", "huawei", "vault")


@attrs.frozen
class Tenant:
    """One set of credentials.

    Attributes:
        canaries: those texts in it that are secret.
        in_environment: whether its holder has them in its environment, and so is found by them.
    """

    key: DecryptionKey
    canaries: tuple[str, ...]
    in_environment: bool = True


@attrs.frozen
class Case:
    """A Decryptor, and what is said of it in the end."""

    name: str
    tenant: str
    key: DecryptionKey
    file: str
    reason: str


@attrs.frozen
class Evidence:
    """What one run of everything left and showed.

    Attributes:
        tenants: all credentials, by name.
        cases: all Decryptors.
        issued: tokens that the services gave for credentials meanwhile, which can be used like them.
        metrics: the pages of both services.
        rpc: by case, what a client of Krapao's got.
        after: what is in the folder that had keyrings and certificates once the services ended.
    """

    tenants: Mapping[str, Tenant]
    cases: Sequence[Case]
    issued: Sequence[str]
    krapao_pid: int
    processes: Sequence[Process]
    logs: bytes
    events: bytes
    statuses: Mapping[str, bytes]
    metrics: Mapping[str, bytes]
    rpc: Mapping[str, bytes]
    on_disk: Mapping[str, bytes]
    after: Mapping[str, bytes]

    def canaries(self) -> set[bytes]:
        return forms_of(PLAIN, *self.issued, *(text for tenant in self.tenants.values() for text in tenant.canaries))


# The credentials


def _line_of(pem: str, begin: str) -> str:
    """A line from the middle of an armored key."""
    lines = pem.split(begin, 1)[1].splitlines()
    return lines[len(lines) // 2]


def _tenants(services: Services) -> dict[str, Tenant]:
    """Several sets of credentials for each provider, in each way that they may be given. wrong-… opens nothing."""
    right = {name: service.right for name, service in services.by_provider.items()}
    age, aws_key, azure_key, gcp_key, huawei_key, vault_key = (
        right[name] for name in ("age", "aws", "azure", "gcp", "huawei", "vault")
    )
    assert isinstance(age, AgeKey)
    assert isinstance(aws_key, AwsKey)
    assert isinstance(azure_key, AzureKey)
    assert isinstance(gcp_key, GcpKey)
    assert isinstance(huawei_key, HuaweiKey)
    assert isinstance(vault_key, VaultKey)
    identity = age.private_key.reveal()
    stranger = str(x25519.Identity.generate())
    return {
        "age": Tenant(age, (identity,)),
        # That it is for others is seen before any process gets it.
        "wrong-age": Tenant(AgeKey(secret(stranger)), (stranger,), in_environment=False),
        **_pgp_tenants(),
        **_aws_tenants(services.double("aws", Aws), aws_key),
        **_azure_tenants(services.double("azure", Azure), azure_key),
        **_gcp_tenants(services.double("gcp", Gcp), gcp_key),
        **_huawei_tenants(services.double("huawei", Huawei), huawei_key),
        **_vault_tenants(services.double("vault", Vault)),
    }


def _pgp_tenants() -> dict[str, Tenant]:
    """Their holders have them in a keyring, and nothing of them in the environment."""
    right = "canary-passphrase-90b1d4"
    key, stranger = new_pgp_key("right", right), new_pgp_key("wrong")
    wrong = "canary-wrong-passphrase-1c77"
    locked = PgpKey(secret((DATA / "pgp-passphrase-key.asc").read_text()), secret(wrong))
    return {
        "pgp": Tenant(key, (right, _line_of(key.private_key.reveal(), "BLOCK-----")), in_environment=False),
        "wrong-pgp": Tenant(stranger, (_line_of(stranger.private_key.reveal(), "BLOCK-----"),), in_environment=False),
        "locked-pgp": Tenant(locked, (wrong,), in_environment=False),
    }


def _aws_tenants(aws: Aws, key: AwsKey) -> dict[str, Tenant]:
    user = aws.create_user("canary")
    key_id, access_key, token = temporary_credentials(aws, aws.create_role("canary"))
    wrong = "canary-aws-wrong-secret-key-5d0f7a2c"
    return {
        "aws": Tenant(attrs.evolve(key, key_id=secret(user.key_id), access_key=secret(user.secret)), (user.secret,)),
        "session-aws": Tenant(
            attrs.evolve(key, key_id=secret(key_id), access_key=secret(access_key), session_token=secret(token)),
            (access_key, token),
        ),
        "wrong-aws": Tenant(attrs.evolve(key, access_key=secret(wrong)), (wrong,)),
    }


def _azure_tenants(azure: Azure, key: AzureKey) -> dict[str, Tenant]:
    other = azure.create_application("canary")
    wrong = "canary-azure-wrong-secret-0e4b"
    by_certificate = AzureKey(
        tenant_id=key.tenant_id, client_id=secret(other.client_id), client_certificate=secret(other.certificate)
    )
    return {
        "azure": Tenant(key, (azure.application.client_secret,)),
        # In a file of its holder's own.
        "certificate-azure": Tenant(
            by_certificate, (_line_of(other.certificate, "PRIVATE KEY-----"),), in_environment=False
        ),
        "wrong-azure": Tenant(attrs.evolve(key, client_secret=secret(wrong)), (wrong,)),
    }


def _gcp_tenants(gcp: Gcp, key: GcpKey) -> dict[str, Tenant]:
    token = gcp.create_token()
    wrong = gcp.wrong_environment()["GOOGLE_CREDENTIALS"]
    return {
        "gcp": Tenant(key, (_line_of(json.loads(gcp.account.key_file)["private_key"], "PRIVATE KEY-----"),)),
        "token-gcp": Tenant(GcpKey(access_token=secret(token), endpoint=key.endpoint), (token,)),
        "wrong-gcp": Tenant(
            attrs.evolve(key, service_account=secret(wrong)),
            (_line_of(json.loads(wrong)["private_key"], "PRIVATE KEY-----"),),
        ),
    }


def _huawei_tenants(huawei: Huawei, key: HuaweiKey) -> dict[str, Tenant]:
    wrong = AccessKey(huawei.user.access_key, "canary-huawei-wrong-secret-key-77c1")
    return {
        "huawei": Tenant(key, (huawei.user.secret_key,)),
        "wrong-huawei": Tenant(attrs.evolve(key, secret_key=secret(wrong.secret_key)), (wrong.secret_key,)),
    }


def _vault_tenants(vault: Vault) -> dict[str, Tenant]:
    address = secret(vault.address)
    token, ambient = vault.create_token(), vault.create_token()
    role_id, secret_id = vault.create_app_role()
    jwt, wrong = "canary-service-account-token-c41e", "hvs.canary-wrong-token-3ad8"
    vault.create_kubernetes_role("canary", {jwt})
    return {
        "vault": Tenant(VaultKey(address=address, token=secret(token)), (token,)),
        # What its holder gets is the token of the login.
        "role-vault": Tenant(
            VaultKey(address=address, role_id=secret(role_id), secret_id=secret(secret_id)),
            (secret_id,),
            in_environment=False,
        ),
        "account-vault": Tenant(
            VaultKey(address=address, kubernetes_role=secret("canary"), kubernetes_token=secret(jwt)),
            (jwt,),
            in_environment=False,
        ),
        # The operator's own, which Krapao itself is started with.
        "ambient-vault": Tenant(VaultKey(), (ambient,)),
        "wrong-vault": Tenant(VaultKey(address=address, token=secret(wrong)), (wrong,)),
    }


# The cases


def _files(lab: Lab, services: Services, tenants: Mapping[str, Tenant], other: Vault) -> dict[str, bytes]:
    """Files of each provider: a good one, a changed one, and one for a place where credentials must not go."""
    found = {}
    sops = lab.tools["sops"]

    def encrypt(service: KeyService, provider: str) -> bytes:
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": provider},
            "stringData": {"value": PLAIN},
        }
        return service.encrypt(sops, json.dumps(manifest).encode(), "yaml")

    pgp = tenants["pgp"].key
    assert isinstance(pgp, PgpKey)
    with open_pgp_recipient(pgp) as pgp_service:
        for provider, service in {**services.by_provider, "pgp": pgp_service}.items():
            good = found[f"{provider}.yaml"] = encrypt(service, provider)
            found[f"changed-{provider}.yaml"] = re.sub(rb"ENC\[AES256_GCM,data:", rb"\g<0>AAAA", good, count=1)
    azure = services.double("azure", Azure)
    elsewhere = {
        "azure": attrs.evolve(
            services.by_provider["azure"], options=("--azure-kv", azure.create_key("k", "elsewhere"))
        ),
        "vault": attrs.evolve(
            services.by_provider["vault"],
            options=("--hc-vault-transit", other.create_key("k")),
            environment=other.environment(),
        ),
    }
    for provider, service in elsewhere.items():
        found[f"elsewhere-{provider}.yaml"] = encrypt(service, provider)
    return found


def _cases(tenants: Mapping[str, Tenant]) -> list[Case]:
    """Those for services that work: good, wrong keys, changed files, refused destinations."""
    cases = []
    for name, tenant in tenants.items():
        provider = tenant.key.provider
        wrong = (
            "KeyServiceDenied" if provider in CLOUDS else "KeyInvalid" if name.startswith("locked-") else "KeyMissing"
        )
        reason = wrong if name.startswith(("wrong-", "locked-")) else "Synced"
        cases.append(Case(f"of-{name}", name, tenant.key, f"{provider}.yaml", reason))
        if name == provider:
            cases.append(Case(f"changed-{name}", name, tenant.key, f"changed-{provider}.yaml", "MacMismatch"))
    refused: dict[str, tuple[str, dict[str, Any]]] = {
        "aws": ("aws.yaml", {"allowed_keys": ("arn:aws:kms:us-east-1:000000000000:key/*",)}),
        "azure": ("elsewhere-azure.yaml", {"allowed_vaults": ("https://jiemi.vault.azure.net",)}),
        "gcp": ("gcp.yaml", {"allowed_keys": ("projects/p/locations/global/keyRings/r/cryptoKeys/*",)}),
        "huawei": ("huawei.yaml", {"allowed_keys": ("tr-west-1:none",)}),
        "vault": ("elsewhere-vault.yaml", {}),
    }
    for provider, (file, bounds) in refused.items():
        key = attrs.evolve(tenants[provider].key, **bounds)
        cases.append(Case(f"refused-{provider}", provider, key, file, "DestinationNotAllowed"))
    return cases


def _cases_of_clouds(tenants: Mapping[str, Tenant], name: str, reason: str) -> list[Case]:
    return [
        Case(f"{name}-{provider}", provider, tenants[provider].key, f"{provider}.yaml", reason) for provider in CLOUDS
    ]


# The run


@pytest.fixture(scope="module")
def evidence(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    lab.namespace(NAMESPACE)
    folder = tmp_path_factory.mktemp("canary")
    with open_services(lab.folder) as services, open_vault() as other:
        tenants = _tenants(services)
        repository = lab.repository()
        revision = repository.commit(_files(lab, services, tenants, other))
        other.requests.clear()
        # Asking for credentials and encrypting with them is the tests' own doing, and done now.
        began = time.time()
        watcher = Watcher({name: forms_of(*tenant.canaries) for name, tenant in tenants.items()})
        with watcher.watching():
            run = _run(lab, services, tenants, repository, revision, folder)
        assert other.requests == []
        issued = {
            *services.double("vault", Vault).live_tokens(),
            *filter(None, services.double("gcp", Gcp).bearers),
            *filter(None, services.double("azure", Azure).bearers),
        }
    statuses = {
        item["metadata"]["name"]: json.dumps(item.get("status")).encode()
        for item in lab.admin.call("GET", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors").ok()["items"]
    }
    events = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events").ok()
    return Evidence(
        tenants=tenants,
        cases=run.cases,
        issued=sorted(issued),
        krapao_pid=run.krapao_pid,
        processes=watcher.processes,
        logs=lab.logs().encode(),
        events=json.dumps(events["items"]).encode(),
        statuses=statuses,
        metrics=run.metrics,
        rpc=run.rpc,
        on_disk=contents(folder) | new_files_of_the_machine(began),
        after=contents(lab.folder),
    )


@attrs.frozen
class _Run:
    cases: Sequence[Case]
    krapao_pid: int
    metrics: Mapping[str, bytes]
    rpc: Mapping[str, bytes]


def _run(
    lab: Lab, services: Services, tenants: Mapping[str, Tenant], repository: Repository, revision: str, folder: Path
) -> _Run:
    """Start Krapao and Miwen, and have them do everything; they are ended then."""
    home = folder / "home"
    home.mkdir()
    ours = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    ambient = {
        "VAULT_ADDR": services.double("vault", Vault).address,
        "VAULT_TOKEN": tenants["ambient-vault"].canaries[0],
    }
    krapao, address = lab.start_krapao(
        *("--allow-ambient-identity", "vault", "--ambient-key", "vault=**", "--ambient-repository", "**"),
        "--state-dir",
        folder / "state",
        *METRICS,
        environment={**services.environment, **ours, **ambient},
    )
    arguments = ("--krapao", address, "--kubeconfig", lab.kubeconfig, "--namespace", NAMESPACE, "--interval", "5s")
    miwen = lab.start("miwen", *arguments, *METRICS, environment={**operator_environment(), **ours})
    run = partial(_run_cases, lab, tenants, repository, revision, address)
    cases = _cases(tenants)
    rpc = run(cases)
    doubles = [services.by_provider[provider].double for provider in CLOUDS]
    for name, reason, switch in (
        ("denied", "KeyServiceDenied", "deny"),
        ("unreachable", "KeyServiceUnreachable", "break_connection"),
    ):
        for double in doubles:
            setattr(double, switch, True)
        more = _cases_of_clouds(tenants, name, reason)
        rpc |= run(more)
        cases += more
        for double in doubles:
            setattr(double, switch, False)
    assert all(path.stat().st_mode & 0o077 == 0 for path in lab.folder.glob("jiemi-sops-*"))
    metrics = {each.name: metrics_page(each).encode() for each in (krapao, miwen)}
    lab.end_services()
    services.switch_back()
    return _Run(cases, krapao.process.pid, metrics, rpc)


def _run_cases(
    lab: Lab,
    tenants: Mapping[str, Tenant],
    repository: Repository,
    revision: str,
    address: str,
    cases: Sequence[Case],
) -> dict[str, bytes]:
    """Have Miwen do all cases, and ask Krapao for the same; returns what Krapao answered."""
    for case in cases:
        # The credentials that open something come from Secrets, the others are literals.
        form = literals if case.reason != "Synced" else in_secret(lab, NAMESPACE, f"{case.name}-key")
        manifest = lab.decryptor(
            NAMESPACE, case.name, repository.url, file=case.file, provider=provider_of(case.key, form=form)
        )
        if case.reason == "Synced":
            # Several tenants have the same file, and an object can be one Decryptor's only.
            manifest["spec"]["targetNamespace"] = lab.namespace(f"{NAMESPACE}-{case.name}")
        lab.admin.apply(manifest).ok()
    answers = trio.run(_ask_for_all, address, repository.url, revision, cases)
    for case in cases:
        lab.until_reason(NAMESPACE, case.name, case.reason)
        if case.reason == "Synced":
            assert lab.data(f"{NAMESPACE}-{case.name}", tenants[case.tenant].key.provider) == {"value": PLAIN}
    return answers


async def _ask_for_all(address: str, url: str, revision: str, cases: Sequence[Case]) -> dict[str, bytes]:
    answers: dict[str, bytes] = {}
    async with (
        open_bridge() as bridge,
        connect(parse_address(address), bridge=bridge) as krapao,
        krapao.open(Source(url), GitCredentials()) as repository,
    ):

        async def ask(case: Case) -> None:
            reason = "Synced"
            try:
                rendered = await repository.render(RenderRequest(revision, case.file, keys=(case.key,)))
                assert PLAIN.encode() in rendered.documents[0].reveal()
                answers[case.name] = repr(rendered).encode()
            except JiemiError as error:
                answers[case.name] = "".join(traceback.format_exception(error)).encode() + repr(error.failure).encode()
                reason = error.failure.reason
            assert reason == case.reason, (case.name, answers[case.name])

        async with trio.open_nursery() as nursery:
            for case in cases:
                nursery.start_soon(ask, case)
    return answers


# What was found


def test_the_searches_would_find_a_canary(evidence: Evidence) -> None:
    given = [text for tenant in evidence.tenants.values() for text in tenant.canaries]
    assert len(set(evidence.issued) - set(given)) >= 5, "by two logins to Vault, to Google and twice to Azure"
    for text in (PLAIN, *given, *evidence.issued):
        raw = text.encode()
        hidden = {"plain": b"{" + raw, "base64": base64.b64encode(b"x" + raw + b"y"), "hex": raw.hex().encode()}
        assert found_in(hidden, evidence.canaries()) == ["plain", "base64", "hex"]
    assert len(evidence.canaries()) > 100
    assert {case.reason for case in evidence.cases} == {
        *("Synced", "KeyMissing", "KeyInvalid", "KeyServiceDenied", "KeyServiceUnreachable", "MacMismatch"),
        "DestinationNotAllowed",
    }


def test_no_canary_is_in_a_log(evidence: Evidence) -> None:
    for reason in {case.reason for case in evidence.cases} - {"Synced"}:
        assert reason.encode() in evidence.logs
    assert found_in({"logs": evidence.logs}, evidence.canaries()) == []


def test_no_canary_is_in_an_event_or_a_status(evidence: Evidence) -> None:
    assert set(evidence.statuses) == {case.name for case in evidence.cases}
    assert found_in({"events": evidence.events, **evidence.statuses}, evidence.canaries()) == []


def test_no_canary_is_in_a_metric(evidence: Evidence) -> None:
    for provider in (*CLOUDS, "age", "pgp"):
        assert f'provider="{provider}"'.encode() in evidence.metrics["krapao"]
    assert b'outcome="KeyServiceDenied"' in evidence.metrics["miwen"]
    assert found_in(evidence.metrics, evidence.canaries()) == []


def test_no_canary_is_in_what_a_client_of_the_rpc_may_print(evidence: Evidence) -> None:
    assert set(evidence.rpc) == {case.name for case in evidence.cases}
    assert found_in(evidence.rpc, evidence.canaries()) == []


def test_no_canary_is_in_a_command_line(evidence: Evidence) -> None:
    lines = {str(process.pid): process.command for process in evidence.processes}
    assert len(lines) > 50
    for program in (b"\0decrypt\0", b"\0keyservice\0", b"gpg-agent\0"):
        assert any(program in line for line in lines.values()), program
    forms = evidence.canaries()
    assert [process for process in evidence.processes if any(form in process.command for form in forms)] == []


def test_the_credentials_of_a_tenant_are_in_the_environment_of_its_own_holder_only(evidence: Evidence) -> None:
    holders = []
    for process in evidence.processes:
        if not process.tenants:
            continue
        if process.pid == evidence.krapao_pid or b"\0krapao\0" in process.command:  # also one that it is about to start
            assert process.tenants == {"ambient-vault"}, process
            continue
        assert b"\0keyservice\0" in process.command, process
        assert process.parent == evidence.krapao_pid, process
        assert len(process.tenants) == 1, process
        holders.append(process)
    wanted = {name for name, tenant in evidence.tenants.items() if tenant.in_environment}
    assert {name for holder in holders for name in holder.tenants} == wanted


def test_what_reads_files_has_no_credential(evidence: Evidence) -> None:
    openers = [process for process in evidence.processes if b"\0decrypt\0" in process.command]
    assert sum(opener.environment_bytes > 0 for opener in openers) >= 10
    assert {opener.tenants for opener in openers} == {frozenset()}


def test_no_canary_is_in_a_file_on_a_disk_nor_in_memory_once_the_services_ended(evidence: Evidence) -> None:
    assert any(name.endswith(".pack") for name in evidence.on_disk)
    assert found_in(evidence.on_disk, evidence.canaries()) == []
    assert not any("jiemi-sops-" in name for name in evidence.after)
    assert found_in(evidence.after, evidence.canaries()) == []
