"""What a holder's process is started with: the environment that makes `sops keyservice` use one Decryptor's
credentials.

The environment is made from nothing. Besides the credentials it shuts every other place in which sops and the
libraries of the key services look for some: the home (an empty folder), ssh keys, agents, commands, and the metadata
address of clouds. The variables are those of sops v3.13 (docs/index.rst) and of each service's library:

    aws     https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html
    gcp     https://pkg.go.dev/golang.org/x/oauth2/google; GOOGLE_CREDENTIALS is sops's own
    azure   https://learn.microsoft.com/azure/developer/go/sdk/authentication/credential-chains
    vault   https://developer.hashicorp.com/vault/docs/commands#configure-environment-variables
    huawei  https://github.com/huaweicloud/huaweicloud-sdk-go-v3 (README, "Use Environment Variables")

Only a pod's ambient identity is taken from Krapao's own environment, and only where its operator allows that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import attrs

from jiemi.core.addresses import normal_address
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.credential_files import (
    HOST_LABEL,
    require_authorities,
    require_certificate,
    service_account,
)
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import AwsKey, AzureKey, GcpKey, HuaweiKey, VaultKey

CloudKey = AwsKey | GcpKey | AzureKey | VaultKey | HuaweiKey

NOWHERE = "http://0.0.0.0:9"
"""An address of the discard port on no host: connecting fails at once, and Go does not exempt it from proxies."""

EMPTY_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/nonexistent",
    "LC_ALL": "C",
    "SOPS_DISABLE_VERSION_CHECK": "1",
    "GOTRACEBACK": "none",  # a crash prints no stack, which would hold the file
    # No identity of the machine's own, and no metadata address (169.254.169.254) asked for one
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent/aws",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws",
    "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/gcp",
    "GCE_METADATA_HOST": "0.0.0.0:9",
    "SOPS_HC_VAULT_ALLOWLIST": "https://vault.invalid",
    "VAULT_ADDR": NOWHERE,
}
"""For every process of sops's."""

NO_NETWORK_ENVIRONMENT: Mapping[str, str] = {
    "AWS_ENDPOINT_URL": NOWHERE,
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "ALL_PROXY": NOWHERE,
    "NO_PROXY": "",
}
"""For those that have no business in the net, beside what the platform keeps them from."""

CLIENT_TIMEOUT_SECONDS = 8
"""How long a key service's library waits for an answer where a variable sets that; less than Krapao's own deadline."""

_TOKEN_FILES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_FEDERATED_TOKEN_FILE",
    "VAULT_CACERT",
)

_SIMPLE = re.compile(r"[ -~]{1,4096}")


@attrs.frozen
class Plan:
    """How a holder of a key service in the net is started.

    Attributes:
        environment: all of it, but for HOME and the paths of `files`.
        files: by the variable that names it, a file that is written into the holder's own folder in memory.
        read: paths of Krapao's own that the holder must be able to read, for an ambient identity.
    """

    environment: Mapping[str, str] = attrs.field(repr=False)
    files: Mapping[str, SensitiveText] = attrs.field(factory=dict)
    read: tuple[str, ...] = ()


def plan(key: CloudKey, operator: OperatorEnvironment, *, vault_address: str, vault_token: str) -> Plan:
    """What the holder of a key is started with.

    Args:
        operator: what Krapao's own environment gives.
        vault_address, vault_token: for Vault, the one server and the token for it; otherwise "".

    Raises:
        JiemiError: KeyInvalid; AmbientIdentityNotAllowed.
    """
    match key:
        case AwsKey():
            made = _plan_aws(key, operator)
        case GcpKey():
            made = _plan_gcp(key, operator)
        case AzureKey():
            made = _plan_azure(key, operator)
        case VaultKey():
            made = _plan_vault(key, operator, vault_address, vault_token)
        case HuaweiKey():
            made = _plan_huawei(key)
    merged = {**EMPTY_ENVIRONMENT, **operator.network, **made.environment}
    # An empty one takes out what EMPTY_ENVIRONMENT shuts.
    return attrs.evolve(made, environment={name: value for name, value in merged.items() if value})


def _text(value: SensitiveText, field: str) -> str:
    """A credential that goes into a variable; without the newline with which a file ends.

    Raises:
        JiemiError: KeyInvalid.
    """
    text = value.reveal().strip()
    if _SIMPLE.fullmatch(text) is None:
        raise JiemiError(
            "KeyInvalid",
            f"spec.provider.{field} is no single line of plain text",
            "Put that value alone there: no line break, no quotes around it, nothing beside it.",
        )
    return text


def _given(provider: str, values: Mapping[str, tuple[str, SensitiveText | None]]) -> dict[str, str]:
    """Variables by name, each from (field, value) where it is given."""
    return {name: _text(value, f"{provider}.{field}") for name, (field, value) in values.items() if value is not None}


def _url(value: SensitiveText, field: str) -> str:
    text = _text(value, field)
    if normal_address(text) is None:
        raise JiemiError(
            "KeyInvalid",
            f"spec.provider.{field} is no http:// or https:// URL of a server",
            "Write it as https://HOST or https://HOST:PORT.",
        )
    return text


def _not_with_the_operators(provider: str, **fields: SensitiveText | None) -> None:
    """Refuse to send an identity that is not the Decryptor's to a server that the Decryptor chooses."""
    for name, value in fields.items():
        if value is not None:
            raise JiemiError(
                "KeyInvalid",
                f"spec.provider.{provider}.{name} stands without credentials of the Decryptor's own: Krapao's identity "
                "goes to the service's public address only",
                f"Give credentials in spec.provider.{provider}, or take {name} out.",
            )


def _ambient_files(variables: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(variables[name] for name in _TOKEN_FILES if name in variables)


def _plan_aws(key: AwsKey, operator: OperatorEnvironment) -> Plan:
    environment: dict[str, str] = {"AWS_MAX_ATTEMPTS": "2", "AWS_RETRY_MODE": "standard"}
    read: tuple[str, ...] = ()
    if key.ambient:
        identity = operator.identity("aws")
        _not_with_the_operators("aws", endpoint=key.endpoint, stsEndpoint=key.sts_endpoint)
        environment |= identity
        environment["AWS_EC2_METADATA_DISABLED"] = "false"
        read = _ambient_files(identity)
    elif key.access_key is None:
        raise JiemiError(
            "KeyInvalid",
            "spec.provider.aws.keyId has no spec.provider.aws.accessKey beside it",
            "Give both halves of the AWS access key.",
        )
    environment |= _given(
        "aws",
        {
            "AWS_ACCESS_KEY_ID": ("keyId", key.key_id),
            "AWS_SECRET_ACCESS_KEY": ("accessKey", key.access_key),
            "AWS_SESSION_TOKEN": ("sessionToken", key.session_token),
            "AWS_REGION": ("region", key.region),
        },
    )
    if HOST_LABEL.fullmatch(environment.get("AWS_REGION", "none")) is None:
        raise JiemiError(
            "KeyInvalid",
            "spec.provider.aws.region is no name of a region",
            "Put the name of the key's region there, such as eu-central-1.",
        )
    if key.endpoint is not None:
        environment["AWS_ENDPOINT_URL_KMS"] = _url(key.endpoint, "aws.endpoint")
    if key.sts_endpoint is not None:
        environment["AWS_ENDPOINT_URL_STS"] = _url(key.sts_endpoint, "aws.stsEndpoint")
    return Plan(environment, read=read)


def _plan_gcp(key: GcpKey, operator: OperatorEnvironment) -> Plan:
    environment: dict[str, str] = {"SOPS_GCP_KMS_CLIENT_TYPE": "rest"}
    read: tuple[str, ...] = ()
    if key.endpoint is not None:
        environment["SOPS_GCP_KMS_ENDPOINT"] = _url(key.endpoint, "gcp.endpoint")
    if key.service_account is not None:
        environment["GOOGLE_CREDENTIALS"] = service_account(key.service_account)
    elif key.access_token is not None:
        environment["GOOGLE_OAUTH_ACCESS_TOKEN"] = _text(key.access_token, "gcp.accessToken")
    else:
        identity = operator.identity("gcp")
        _not_with_the_operators("gcp", endpoint=key.endpoint)
        environment |= {"GOOGLE_APPLICATION_CREDENTIALS": "", "GCE_METADATA_HOST": "", **identity}
        read = _ambient_files(identity)
    return Plan(environment, read=read)


def _plan_azure(key: AzureKey, operator: OperatorEnvironment) -> Plan:
    files: dict[str, SensitiveText] = {}
    environment: dict[str, str] = {}
    read: tuple[str, ...] = ()
    if key.ambient:
        identity = operator.identity("azure")
        _not_with_the_operators("azure", authorityHost=key.authority_host)
        environment |= identity
        read = _ambient_files(identity)
        if "AZURE_FEDERATED_TOKEN_FILE" in identity:
            environment["AZURE_TOKEN_CREDENTIALS"] = "WorkloadIdentityCredential"  # noqa: S105
        elif "AZURE_CLIENT_SECRET" not in identity:
            environment["AZURE_TOKEN_CREDENTIALS"] = "ManagedIdentityCredential"  # noqa: S105
    elif key.tenant_id is None or key.client_id is None:
        raise JiemiError(
            "KeyInvalid",
            "spec.provider.azure has no tenantId or no clientId beside the secret or certificate",
            "Give tenantId and clientId of the application that may use the key.",
        )
    environment |= _given(
        "azure",
        {
            "AZURE_TENANT_ID": ("tenantId", key.tenant_id),
            "AZURE_CLIENT_ID": ("clientId", key.client_id),
            "AZURE_CLIENT_SECRET": ("clientSecret", key.client_secret),
        },
    )
    if key.authority_host is not None:
        environment["AZURE_AUTHORITY_HOST"] = _url(key.authority_host, "azure.authorityHost")
    if key.client_certificate is not None:
        require_certificate(key.client_certificate)
        files["AZURE_CLIENT_CERTIFICATE_PATH"] = key.client_certificate
    return Plan(environment, files, read)


def _plan_vault(key: VaultKey, operator: OperatorEnvironment, address: str, token: str) -> Plan:
    environment = {
        "VAULT_TOKEN": _text(SensitiveText(token), "vault.token"),
        "VAULT_ADDR": address,
        "SOPS_HC_VAULT_ALLOWLIST": address,
        "VAULT_MAX_RETRIES": "1",
        "VAULT_CLIENT_TIMEOUT": f"{CLIENT_TIMEOUT_SECONDS}s",
        "VAULT_DISABLE_REDIRECTS": "true",  # a redirect would carry the token along
    }
    files: dict[str, SensitiveText] = {}
    read: tuple[str, ...] = ()
    if key.ambient:
        identity = operator.identity("vault")
        environment |= {name: value for name, value in identity.items() if name not in ("VAULT_TOKEN", "VAULT_ADDR")}
        read = _ambient_files(identity)
    environment |= _given("vault", {"VAULT_NAMESPACE": ("namespace", key.namespace)})
    if key.ca_bundle is not None:
        require_authorities(key.ca_bundle, "spec.provider.vault.caBundle")
        files["VAULT_CACERT"] = key.ca_bundle
    return Plan(environment, files, read)


def _plan_huawei(key: HuaweiKey) -> Plan:
    # Without the project's id the library asks for it with the region that the file names, and panics on a failure.
    return Plan(
        _given(
            "huawei",
            {
                "HUAWEICLOUD_SDK_AK": ("accessKey", key.access_key),
                "HUAWEICLOUD_SDK_SK": ("secretKey", key.secret_key),
                "HUAWEICLOUD_SDK_PROJECT_ID": ("projectId", key.project_id),
            },
        )
    )


def given_name(key: CloudKey) -> str:
    """A key's public name, for a message."""
    if key.provider != "huawei" and isinstance(key, AwsKey | GcpKey | AzureKey | VaultKey) and key.ambient:
        return f"Krapao's own {key.provider} identity"
    match key:
        case AwsKey(role_arn=SensitiveText() as role):
            return f"AWS role {_text(role, 'aws.roleArn')}"
        case GcpKey(service_account=SensitiveText() as account):
            return f"GCP service account {json.loads(service_account(account))['client_email'][:200]}"
        case AzureKey(client_id=SensitiveText() as client):
            return f"Azure client {_text(client, 'azure.clientId')}"
    return {"aws": "an AWS access key", "gcp": "a GCP access token", "vault": "a Vault token"}.get(
        key.provider, "a Huawei Cloud access key"
    )
