"""Where a data key may be sent to be opened: a pure decision.

A file's writer chooses the key service, the server, the role and the key, and need not be who wrote the Decryptor. So
each request of an opener is compared with what the Decryptor's key names or allows before any process that holds a
credential sees it. What passes is not the request itself but one that is rebuilt from its checked parts; a profile is
dropped, and a role is the Decryptor's.

    judge(what the file asks for, what the Decryptor gives) -> what the holder is asked | Refusal

The shapes are strict on purpose: sops puts an ARN's region and an engine's path into URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from jiemi.core.addresses import normal_address
from jiemi.core.patterns import matches
from jiemi.krapao.decryption.keyservice import (
    AgeMasterKey,
    AwsMasterKey,
    AzureMasterKey,
    GcpMasterKey,
    HuaweiMasterKey,
    MasterKey,
    PgpMasterKey,
    VaultMasterKey,
)
from jiemi.rpc.keys import AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, VaultKey

_MAX_NAME_CHARACTERS = 2_048
_MAX_CONTEXT_PAIRS = 50

_ARN = re.compile(
    r"arn:aws(-[a-z]{1,10}){0,3}:kms:(?P<region>[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]{1,2}):[0-9]{12}:"
    r"(key/[A-Za-z0-9-]{1,128}|alias/[A-Za-z0-9/_-]{1,256})"
)
"""https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id-key-ARN"""

_GCP_RESOURCE = re.compile(
    r"projects/[a-z0-9][a-z0-9.:-]{0,120}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}"
    r"/cryptoKeys/[A-Za-z0-9_-]{1,63}"
)
"""https://cloud.google.com/kms/docs/resource-hierarchy"""

_AZURE_VAULT = re.compile(
    r"https://[a-zA-Z0-9-]{1,63}\.(vault\.azure\.net|vault\.azure\.cn|vault\.usgovcloudapi\.net|managedhsm\.azure\.net"
    r"|managedhsm\.azure\.cn|managedhsm\.usgovcloudapi\.net)"
)
"""https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#dns-suffixes-for-object-identifiers"""

_AZURE_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_AZURE_VERSION = re.compile(r"[0-9A-Fa-f]{0,64}")
_VAULT_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){0,15}")
_VAULT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,255}")
_HUAWEI_KEY = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]{1,3}:[0-9a-zA-Z-]{1,64}")
_PRINTABLE = re.compile(r"[ -~]+")


@attrs.frozen
class Refusal:
    """Why a request is not passed on.

    Attributes:
        message: safe to show; says what to add to the spec where that would help.
    """

    message: str


@attrs.frozen
class VaultTrust:
    """Which Vault servers may get a token, beside the one that the spec names.

    Attributes:
        allowed: addresses of the operator's list.
        own: the operator's own server, which may also get an identity of Krapao's own; or None.
        naming_required: whether one that nobody names is refused, the first time too.
        first: the server that this very run has trusted because nobody names one, or None.
    """

    allowed: tuple[str, ...] = ()
    own: str | None = None
    naming_required: bool = False
    first: str | None = None

    @property
    def operators(self) -> tuple[str, ...]:
        """All that the operator names."""
        return (*self.allowed, self.own) if self.own is not None else self.allowed


def name_of(key: MasterKey) -> str:
    """A master key's public name with its kind, for a message: "age age1…"; never longer than a line."""
    kind, name = _kind_and_name(key)
    if isinstance(key, VaultMasterKey | AzureMasterKey):
        name = _without_userinfo(name)
    return f"{kind} {''.join(char if ' ' <= char <= '~' else '?' for char in name[:200])}"


def service_name_of(key: MasterKey) -> str:
    """A master key's name as its service has it, without its kind: an ARN, a resource id, a URL."""
    return _kind_and_name(key)[1]


def allowed_by_policy(key: MasterKey, recipients: Sequence[str]) -> Refusal | None:
    """A refusal where a policy lists recipients and a master key is none of them."""
    if not recipients or any(matches(_kind_and_name(key)[1], pattern) for pattern in recipients):
        return None
    return Refusal(f"the operator's policy does not allow the file's recipient {name_of(key)}")


def _kind_and_name(key: MasterKey) -> tuple[str, str]:
    match key:
        case AgeMasterKey():
            kind, name = "age", key.recipient
        case PgpMasterKey():
            kind, name = "pgp", key.fingerprint
        case AwsMasterKey():
            kind, name = "AWS KMS", key.arn
        case GcpMasterKey():
            kind, name = "GCP KMS", key.resource_id
        case AzureMasterKey():
            kind, name = "Azure Key Vault", f"{key.vault_url}/keys/{key.name}/{key.version}"
        case VaultMasterKey():
            kind, name = "Vault", f"{key.address}/v1/{key.engine_path}/keys/{key.key_name}"
        case HuaweiMasterKey():
            kind, name = "Huawei Cloud KMS", key.key_id
    return kind, name


def provider_of(key: MasterKey) -> str:
    """The provider of the spec that can open what this master key wrapped."""
    return _PROVIDERS[type(key)]


_PROVIDERS: dict[type, str] = {
    AgeMasterKey: "age",
    PgpMasterKey: "pgp",
    AwsMasterKey: "aws",
    GcpMasterKey: "gcp",
    AzureMasterKey: "azure",
    VaultMasterKey: "vault",
    HuaweiMasterKey: "huawei",
}


def judge(  # noqa: PLR0911 - a table
    asked: MasterKey, given: DecryptionKey, trust: VaultTrust
) -> MasterKey | Refusal:
    """Whether the holder of a key may be asked for a data key, and with which words.

    Args:
        asked: what the file asks for, as the opener sent it.
        given: the Decryptor's key of the same provider.
        trust: for Vault.
    """
    match asked, given:
        case AwsMasterKey(), AwsKey():
            return _judge_aws(asked, given)
        case GcpMasterKey(), GcpKey():
            return _judge_gcp(asked, given)
        case AzureMasterKey(), AzureKey():
            return _judge_azure(asked, given)
        case VaultMasterKey(), VaultKey():
            return _judge_vault(asked, given, trust)
        case HuaweiMasterKey(), HuaweiKey():
            if _HUAWEI_KEY.fullmatch(asked.key_id) is None:
                return Refusal("the file names a Huawei Cloud KMS key that is no REGION:UUID")
            return _within(asked.key_id, given.allowed_keys, "spec.provider.huawei.allowedKeys") or asked
        case (AgeMasterKey(recipient=name), _) | (PgpMasterKey(fingerprint=name), _):
            # Neither service opens by the name; it is for messages only.
            if len(name) > _MAX_NAME_CHARACTERS or _PRINTABLE.fullmatch(name) is None:
                return Refusal("the file names a recipient that is no name")
            return asked
    return Refusal("no key of this kind is given")


def _judge_aws(asked: AwsMasterKey, given: AwsKey) -> AwsMasterKey | Refusal:
    if _ARN.fullmatch(asked.arn) is None:
        return Refusal("the file names an AWS KMS key that is no ARN of one")
    if len(asked.context) > _MAX_CONTEXT_PAIRS:
        return Refusal("the file names an encryption context of more pairs than Krapao takes")
    role = given.role_arn.reveal().strip() if given.role_arn is not None else ""
    if asked.role not in ("", role):
        return Refusal(
            f"the file asks for the role {_shown(asked.role)}, which the spec does not name: if it is meant, put it "
            "into spec.provider.aws.roleArn"
        )
    refused = _within(asked.arn, given.allowed_keys, "spec.provider.aws.allowedKeys")
    # A profile names credentials on the machine of whoever encrypted the file; here the Decryptor's own are used.
    return refused or AwsMasterKey(asked.arn, role, asked.context)


def _judge_gcp(asked: GcpMasterKey, given: GcpKey) -> GcpMasterKey | Refusal:
    if _GCP_RESOURCE.fullmatch(asked.resource_id) is None:
        return Refusal("the file names a GCP KMS key that is no resource id of one")
    return _within(asked.resource_id, given.allowed_keys, "spec.provider.gcp.allowedKeys") or asked


def _judge_azure(asked: AzureMasterKey, given: AzureKey) -> AzureMasterKey | Refusal:
    field = "spec.provider.azure.allowedVaults"
    url = asked.vault_url.removesuffix("/")
    if _AZURE_NAME.fullmatch(asked.name) is None or _AZURE_VERSION.fullmatch(asked.version) is None:
        return Refusal("the file names an Azure Key Vault key whose name or version is none")
    if given.allowed_vaults:
        # What is asked is the URL as the spec spells it.
        named = {each.removesuffix("/").lower(): each.removesuffix("/") for each in given.allowed_vaults}
        if not url.isascii() or url.lower() not in named:
            return Refusal(f"the file names the Key Vault {_shown(url)}, which {field} does not list")
        return AzureMasterKey(named[url.lower()], asked.name, asked.version)
    if not is_azures_own(url):
        return Refusal(
            f"the file names {_shown(url)}, which is no host of Azure Key Vault's own: if it is meant, put it into "
            f"{field}"
        )
    return AzureMasterKey(url, asked.name, asked.version)


def is_azures_own(url: str) -> bool:
    """Whether a Key Vault is one under Azure's own names."""
    return _AZURE_VAULT.fullmatch(url) is not None


def _judge_vault(asked: VaultMasterKey, given: VaultKey, trust: VaultTrust) -> VaultMasterKey | Refusal:
    engine = asked.engine_path.strip("/")
    if _VAULT_PATH.fullmatch(engine) is None or _VAULT_NAME.fullmatch(asked.key_name) is None:
        return Refusal("the file names a Vault transit engine or key whose path is none")
    address = normal_address(asked.address)
    if address is None:
        return Refusal("the file names a Vault address that is no http:// or https:// URL of a server")
    refused = _judge_vault_address(address, given, trust)
    if refused is None:
        refused = _within(f"{engine}/keys/{asked.key_name}", given.allowed_keys, "spec.provider.vault.allowedKeys")
    return refused or VaultMasterKey(address, engine, asked.key_name)


def _judge_vault_address(  # noqa: PLR0911 - a table
    address: str, given: VaultKey, trust: VaultTrust
) -> Refusal | None:
    help_text = f"if it is meant, set spec.provider.vault.address to {address}"
    by_operator = address in {normal_address(each) for each in trust.operators}
    if given.allowed_addresses and not (by_operator or any(matches(address, each) for each in given.allowed_addresses)):
        return Refusal(
            f"the file names the Vault {address}, which the operator's policy does not allow (keyServices of the "
            "rule, or Krapao's --allow-vault-address)"
        )
    if given.ambient:
        # The token is the operator's own, so only the operator says where it may go.
        if by_operator:
            return None
        return Refusal(
            f"the file names the Vault {address}, and Krapao's own identity goes only where its operator says "
            "(VAULT_ADDR, --allow-vault-address): use that Vault, or give a token in spec.provider.vault"
        )
    if given.address is not None:
        if address == normal_address(given.address.reveal()):
            return None
        return Refusal(f"the file names the Vault {address}, but spec.provider.vault.address names another")
    if by_operator:
        return None
    if given.pinned_address is not None:
        if address == normal_address(given.pinned_address):
            return None
        return Refusal(
            f"the file names the Vault {address}, but the token was sent to {_shown(given.pinned_address)} until now: "
            + help_text
        )
    if trust.naming_required:
        return Refusal(f"the file names the Vault {address}, which nothing allows: {help_text}")
    if trust.first not in (None, address):
        return Refusal(f"the file names a second Vault, {address}, and only one is trusted unnamed: {help_text}")
    return None


def is_named(address: str, given: VaultKey, trust: VaultTrust) -> bool:
    """Whether an address that was let through is named by someone, and not only trusted the first time."""
    return (
        given.address is not None
        or given.pinned_address is not None
        or address in {normal_address(each) for each in trust.operators}
    )


def _within(name: str, patterns: Iterable[str], field: str) -> Refusal | None:
    """A refusal where there are patterns and none takes the name."""
    listed = tuple(patterns)
    if not listed or any(matches(name, pattern) for pattern in listed):
        return None
    return Refusal(f"the file names {_shown(name)}, which {field} does not list")


def _shown(text: str) -> str:
    return "".join(char if "!" <= char <= "~" else "?" for char in _without_userinfo(text)[:200])


def _without_userinfo(url: str) -> str:
    """A URL without what stands before an @: some put a password there, and it may hold any character."""
    if "@" not in url:
        return url
    scheme, separator, _ = url.partition("://")
    return (f"{scheme}://" if separator and "@" not in scheme else "") + url.rpartition("@")[2]
