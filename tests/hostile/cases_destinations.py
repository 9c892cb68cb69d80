"""Files that want a data key, and with it the Decryptor's credentials, to go elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hostile import files
from hostile.case import OPENS, Case
from hostile.lab import Keys, Lab, secret, vault_group
from support.krapao.key_services import lent

from jiemi.core.address_rules import AddressRules
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import AwsKey, AzureKey, GcpKey, VaultKey

KEY = "arn:aws:kms:us-east-1:123456789012:key/k"
ROLE = "arn:aws:iam::123456789012:role/evil"
RESOURCE = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
UUID = "00000000-0000-0000-0000-000000000000"


def _named(lab: Lab) -> Keys:
    return (lab.named_vault,)


def _unnamed(lab: Lab) -> Keys:
    return (lab.vault_key(),)


def _address(text: Callable[[Lab], str]) -> Callable[[Lab], bytes]:
    return lambda lab: lab.asks_vault(text(lab))


def _strangers(lab: Lab) -> bytes:
    return lab.asks_vault(lab.stranger.address)


def _vault(name: str, tries: str, address: Callable[[Lab], str]) -> Case:
    return Case(name=name, tries=tries, file=_address(address), keys=_named, gets="DestinationNotAllowed")


def _vault_path(name: str, tries: str, **path: str) -> Case:
    return Case(
        name=name,
        tries=tries,
        file=lambda lab: lab.asks_vault(lab.vault.address, **path),
        keys=_named,
        gets="DestinationNotAllowed",
        says="whose path is none",
    )


def _host(lab: Lab) -> str:
    """The stranger without its scheme: HOST:PORT."""
    return lab.stranger.address.removeprefix("http://")


VAULT = (
    _vault(
        "vault-beside-the-named-one",
        "a Vault that the Decryptor's `address` does not name",
        lambda lab: lab.stranger.address,
    ),
    Case(
        name="vault-beside-the-pinned-one",
        tries="a Vault beside the one that an earlier file was opened with (`status.vaultAddress`)",
        file=_strangers,
        keys=lambda lab: (lab.vault_key(pinned_address=lab.vault.address),),
        gets="DestinationNotAllowed",
        says="was sent to",
    ),
    Case(
        name="vault-off-the-operators-list",
        tries="a Vault that is not on the operator's list, where naming is required",
        file=_strangers,
        keys=_unnamed,
        gets="DestinationNotAllowed",
        settings=lambda lab: {"vault_addresses": (lab.vault.address,), "require_named_vault": True},
    ),
    Case(
        name="vault-named-by-nobody",
        tries="a Vault that nobody names, where naming is required",
        file=_strangers,
        keys=_unnamed,
        gets="DestinationNotAllowed",
        says="nothing allows",
        settings=lambda _: {"require_named_vault": True},
    ),
    Case(
        name="vault-second-in-one-file",
        tries="a second Vault in one file, where the first one was trusted unnamed",
        file=lambda lab: lab.file(
            {"hc_vault": [*vault_group(lab.vault.address)["hc_vault"], *vault_group(lab.stranger.address)["hc_vault"]]}
        ),
        keys=_unnamed,
        gets="DestinationNotAllowed",
        says="a second Vault",
    ),
    Case(
        name="vault-in-a-second-key-group",
        tries="the stranger in a second key group of three, of which two are enough",
        file=lambda lab: lab.file(
            {
                "key_groups": [
                    files.for_age(part, lab.age_recipient) if number != 1 else vault_group(lab.stranger.address)
                    for number, part in enumerate(files.shares(lab.data_key, 3))
                ],
                "shamir_threshold": 2,
            }
        ),
        keys=lambda lab: (lab.age, lab.named_vault),
        gets=OPENS,
        so="by the other two groups; the stranger is not asked",
    ),
    _vault(
        "vault-userinfo",
        "the named Vault as user information before the stranger's host",
        lambda lab: f"{lab.vault.address}@{_host(lab)}",
    ),
    _vault(
        "vault-userinfo-backslash",
        "the same with a backslash, which some parsers take for a slash",
        lambda lab: f"{lab.vault.address}\\@{_host(lab)}",
    ),
    _vault(
        "vault-fragment",
        "the stranger with the named Vault as fragment",
        lambda lab: f"{lab.stranger.address}#{lab.vault.address}",
    ),
    _vault(
        "vault-query",
        "the stranger with the named Vault as query",
        lambda lab: f"{lab.stranger.address}?{lab.vault.address}",
    ),
    _vault(
        "vault-path-to-the-stranger",
        "the named Vault with `/../` and the stranger as path",
        lambda lab: f"{lab.vault.address}/../{_host(lab)}",
    ),
    _vault(
        "vault-line-end",
        "the named Vault, a line end and the stranger",
        lambda lab: f"{lab.vault.address}\n{lab.stranger.address}",
    ),
    _vault(
        "vault-list",
        "the named Vault, a comma and the stranger, as sops's own list of addresses has it",
        lambda lab: f"{lab.vault.address},{lab.stranger.address}",
    ),
    _vault(
        "vault-decimal-host",
        "the stranger's address as one decimal number",
        lambda lab: f"http://2130706433:{lab.stranger.port}",
    ),
    Case(
        name="vault-on-loopback",
        tries="a Vault on Krapao's own machine that nobody names, to learn what listens there",
        file=_strangers,
        keys=_unnamed,
        gets="AddressNotAllowed",
        says="the file's Vault address",
        settings=lambda _: {"addresses": AddressRules()},
    ),
    Case(
        name="vault-on-loopback-in-ipv6",
        tries="the same in IPv6 that stands for IPv4",
        file=lambda lab: lab.asks_vault(f"http://[::ffff:127.0.0.1]:{lab.stranger.port}"),
        keys=_unnamed,
        gets="AddressNotAllowed",
        settings=lambda _: {"addresses": AddressRules()},
    ),
    Case(
        name="vault-on-loopback-by-name",
        tries="the same by name",
        file=lambda lab: lab.asks_vault(f"http://localhost:{lab.stranger.port}"),
        keys=_unnamed,
        gets="AddressNotAllowed",
        settings=lambda _: {"addresses": AddressRules()},
    ),
    Case(
        name="vault-on-loopback-short",
        tries="the same as a number that only some programs read as that address",
        file=lambda lab: lab.asks_vault(f"http://127.1:{lab.stranger.port}"),
        keys=_unnamed,
        gets="DestinationNotAllowed",
        settings=lambda _: {"addresses": AddressRules()},
    ),
    Case(
        name="vault-metadata",
        tries="the clouds' metadata address as a Vault, even where loopback is allowed",
        file=lambda lab: lab.asks_vault("http://169.254.169.254"),
        keys=_unnamed,
        gets="AddressNotAllowed",
    ),
    Case(
        name="vault-login-on-loopback",
        tries="a login to a Vault on Krapao's own machine",
        file=_strangers,
        keys=lambda lab: (VaultKey(role_id=secret("r"), secret_id=secret(lab.credentials["vault"])),),
        gets="AddressNotAllowed",
        settings=lambda _: {"addresses": AddressRules()},
    ),
    Case(
        name="kms-endpoint-on-loopback",
        tries="a key of AWS KMS, where the Decryptor's `endpoint` is on Krapao's own machine",
        file=lambda lab: lab.asks_aws(),
        keys=lambda lab: (lab.aws(endpoint=secret(lab.stranger.address)),),
        gets="AddressNotAllowed",
        says="spec.provider.aws.endpoint",
        settings=lambda _: {"addresses": AddressRules()},
    ),
    _vault(
        "vault-long-port",
        "the named Vault's port with the stranger's behind it",
        lambda lab: f"{lab.vault.address}:{lab.stranger.port}",
    ),
    _vault("vault-unix", "a socket of unix(7)", lambda _: "unix:///run/krapao.sock"),
    _vault("vault-file", "a `file://` address", lambda _: "file:///etc/passwd"),
    _vault(
        "vault-control-characters",
        "an address with an escape sequence for terminals",
        lambda lab: f"{lab.stranger.address}/\x1b]0;x\x07",
    ),
    _vault("vault-megabyte", "an address of 60,000 characters", lambda lab: lab.stranger.address + "/a" * 30_000),
    Case(
        name="vault-redirect",
        tries="nothing, but the named Vault redirects to the stranger",
        file=lambda lab: lab.asks_vault(lab.redirecting.address),
        keys=lambda lab: (lab.vault_key(address=secret(lab.redirecting.address)),),
        gets="KeyServiceUnreachable",
    ),
    Case(
        name="vault-login-redirect",
        tries="nothing, but the named Vault redirects an AppRole's login to the stranger",
        file=lambda lab: lab.asks_vault(lab.redirecting.address),
        keys=lambda lab: (
            VaultKey(
                address=secret(lab.redirecting.address), role_id=secret("r"), secret_id=secret(lab.credentials["vault"])
            ),
        ),
        gets="KeyServiceDenied",
    ),
    Case(
        name="vault-other-spelling",
        tries="the named Vault in capitals and with a slash at its end",
        file=lambda lab: lab.asks_vault(lab.vault.address.replace("http", "HTTP") + "/", enc=lab.in_vault()),
        keys=_named,
        gets=OPENS,
        so="it is the same server",
    ),
    _vault_path("vault-engine-parent", "an engine's path with `..`", engine="transit/../auth/token"),
    _vault_path("vault-engine-encoded", "the same, percent-encoded", engine="%2e%2e/sys"),
    _vault_path("vault-engine-query", "an engine's path with a query", engine="transit?x="),
    _vault_path("vault-engine-empty", "an empty part in an engine's path", engine="transit//sys"),
    _vault_path("vault-key-parent", "a key's name that leads out of the engine", key="../../sys/seal"),
    _vault_path("vault-key-line-end", "a key's name with a header behind a line end", key="k\r\nX-Evil: 1"),
    Case(
        name="vault-key-not-allowed",
        tries="another key of the named Vault than `allowedKeys` has",
        file=lambda lab: lab.asks_vault(lab.vault.address, enc=lab.in_vault()),
        keys=lambda lab: (lab.vault_key(address=secret(lab.vault.address), allowed_keys=("transit/keys/mine-*",)),),
        gets="DestinationNotAllowed",
        says="allowedKeys",
    ),
    Case(
        name="vault-with-an-operators-identity",
        tries="the stranger, where Krapao lends its own Vault token",
        file=_strangers,
        keys=lambda _: (VaultKey(),),
        gets="DestinationNotAllowed",
        says="only where its operator says",
        settings=lambda lab: {
            "operator": OperatorEnvironment(
                ambient={"vault": {"VAULT_TOKEN": lab.ambient["VAULT_TOKEN"]}}, bounds=lent("vault")
            ),
            "own_vault_address": lab.vault.address,
        },
    ),
)


def _aws(lab: Lab, **fields: Any) -> Keys:
    return (lab.aws(**fields),)


def _cloud(
    name: str,
    tries: str,
    file: Callable[[Lab], bytes],
    keys: Callable[[Lab], Keys],
    gets: str = "DestinationNotAllowed",
    says: str = "",
) -> Case:
    return Case(name=name, tries=tries, file=file, keys=keys, gets=gets, says=says)


def _arn(name: str, tries: str, arn: Callable[[Lab], str]) -> Case:
    return _cloud(name, tries, lambda lab: lab.asks_aws(arn(lab)), _aws, says="no ARN")


AWS = (
    _arn(
        "aws-host-in-region",
        "an ARN with a host as region",
        lambda _: KEY.replace("us-east-1", "us-east-1.evil.example/#"),
    ),
    _arn(
        "aws-address-in-region",
        "an ARN with the stranger's address as region",
        lambda lab: KEY.replace("us-east-1", f"x@{_host(lab)}/"),
    ),
    _arn(
        "aws-long-region",
        "an ARN with a region that is a name of a foreign domain",
        lambda _: KEY.replace("us-east-1", "evil-example-com"),
    ),
    _arn("aws-partition", "an ARN with a partition that does not exist", lambda _: KEY.replace("arn:aws", "arn:evil")),
    _arn("aws-key-path", "an ARN whose key leads out by `..`", lambda _: KEY.replace("key/k", "key/../../x")),
    _arn("aws-line-end", "an ARN with a line end", lambda _: f"{KEY}\nx"),
    _cloud(
        "aws-role-nobody-names",
        "a role, where the spec names none",
        lambda lab: lab.asks_aws(role=ROLE),
        _aws,
        says="roleArn",
    ),
    _cloud(
        "aws-other-role",
        "another role than the spec names",
        lambda lab: lab.asks_aws(role=ROLE),
        lambda lab: _aws(lab, role_arn=secret("arn:aws:iam::123456789012:role/mine")),
        says="roleArn",
    ),
    _cloud(
        "aws-key-not-allowed",
        "another key than `allowedKeys` has",
        lambda lab: lab.asks_aws(),
        lambda lab: _aws(lab, allowed_keys=(KEY.replace("key/k", "key/mine"),)),
        says="allowedKeys",
    ),
    _cloud(
        "aws-key-of-a-pattern-in-another-account",
        "a key of another account, which a pattern's `*` must not reach",
        lambda lab: lab.asks_aws(KEY.replace("123456789012", "999999999999")),
        lambda lab: _aws(lab, allowed_keys=("arn:aws:kms:*:123456789012:key/*",)),
        says="allowedKeys",
    ),
    _cloud(
        "aws-many-pairs",
        "an encryption context of 51 pairs",
        lambda lab: lab.asks_aws(context={f"k{number}": "v" for number in range(51)}),
        _aws,
        says="encryption context",
    ),
    Case(
        name="aws-profile",
        tries="a profile, so that credentials of Krapao's own machine are used",
        file=lambda lab: lab.asks_aws(aws_profile="default"),
        keys=_aws,
        gets=OPENS,
        so="the profile is dropped, and the Decryptor's credentials are used",
    ),
    Case(
        name="aws-null-in-context",
        tries="an encryption context with a null in a file of sops 3.2, over which sops 3.13 falls",
        file=lambda lab: lab.file(_with_context({"a": "1", "b": None}), version="3.2.0"),
        gets="DecryptionFailed",
    ),
    Case(
        name="aws-old-context",
        tries="a file of sops 3.2, whose data key sops would then encrypt again for the file's recipients",
        file=lambda lab: lab.file(lab.for_age, _with_context({"a": "1", "b": "2"}), version="3.2.0"),
        keys=lambda lab: (lab.age, lab.aws()),
        gets="DecryptionFailed",
    ),
)


def _with_context(context: Mapping[str, str | None]) -> Mapping[str, Any]:
    return {"kms": [{"arn": KEY, "created_at": files.NOW, "enc": "AAAA", "aws_profile": "", "context": context}]}


def _gcp(name: str, tries: str, resource: str) -> Case:
    return _cloud(name, tries, lambda lab: lab.asks_gcp(resource), lambda lab: (lab.gcp(),), says="no resource id")


GCP = (
    _gcp("gcp-parent", "a resource with `..`", RESOURCE.replace("global", "../../x")),
    _gcp("gcp-query", "a resource with a query", f"{RESOURCE}?alt=media"),
    _gcp("gcp-method", "a resource with another method", f"{RESOURCE}:getIamPolicy"),
    _gcp("gcp-host", "a resource that begins with a host", f"@evil.example/{RESOURCE}"),
    _gcp("gcp-version", "one version of a key", f"{RESOURCE}/cryptoKeyVersions/1"),
    _cloud(
        "gcp-key-not-allowed",
        "another key than `allowedKeys` has",
        lambda lab: lab.asks_gcp(RESOURCE),
        lambda lab: (lab.gcp(allowed_keys=(RESOURCE + "-mine",)),),
        says="allowedKeys",
    ),
)


def _azure_url(name: str, tries: str, url: Callable[[Lab], str]) -> Case:
    return _cloud(name, tries, lambda lab: lab.asks_azure(url(lab)), lambda lab: (lab.azure(),))


AZURE = (
    _azure_url(
        "azure-suffix", "a host that goes on behind Azure's domain", lambda _: "https://x.vault.azure.net.evil.example"
    ),
    _azure_url("azure-path", "Azure's host as a path of another", lambda _: "https://evil.example/x.vault.azure.net"),
    _azure_url(
        "azure-userinfo", "Azure's host as user information", lambda lab: f"https://x.vault.azure.net@{_host(lab)}"
    ),
    _azure_url(
        "azure-fragment", "another host, and Azure's as fragment", lambda lab: f"https://{_host(lab)}#.vault.azure.net"
    ),
    _azure_url("azure-two-labels", "a host two labels below Azure's domain", lambda _: "https://a.b.vault.azure.net"),
    _azure_url("azure-http", "a vault in the clear", lambda _: "http://x.vault.azure.net"),
    _azure_url("azure-port", "a vault at another port", lambda lab: f"https://x.vault.azure.net:{lab.stranger.port}"),
    _azure_url("azure-stranger", "the stranger", lambda lab: f"https://{_host(lab)}"),
    _azure_url(
        "azure-homograph", "a host with a letter that looks like another", lambda _: "https://x.vault.аzure.net"
    ),
    _cloud(
        "azure-name",
        "a key's name that leads out by `..`",
        lambda lab: lab.asks_azure("https://x.vault.azure.net", name="../secrets/s"),
        lambda lab: (lab.azure(),),
    ),
    _cloud(
        "azure-version",
        "a key's version that leads out by `..`",
        lambda lab: lab.asks_azure("https://x.vault.azure.net", version="../.."),
        lambda lab: (lab.azure(),),
    ),
    _cloud(
        "azure-vault-not-allowed",
        "another vault than `allowedVaults` has",
        lambda lab: lab.asks_azure("https://x.vault.azure.net"),
        lambda lab: (lab.azure(allowed_vaults=("https://mine.vault.azure.net",)),),
        says="allowedVaults",
    ),
)


def _huawei(name: str, tries: str, key: Callable[[Lab], str]) -> Case:
    return _cloud(name, tries, lambda lab: lab.asks_huawei(key(lab)), lambda lab: (lab.huawei(),), says="REGION:UUID")


HUAWEI = (
    _huawei("huawei-host-in-region", "a host as region", lambda _: f"cn-north-1.evil.example/:{UUID}"),
    _huawei("huawei-address-in-region", "the stranger's address as region", lambda lab: f"{_host(lab)}:{UUID}"),
    _huawei("huawei-long-region", "a region that is none", lambda _: f"x-evil-example-com:{UUID}"),
    _huawei("huawei-key-path", "a key that leads out by `..`", lambda _: "cn-north-1:../../v3/auth/tokens"),
    _cloud(
        "huawei-key-not-allowed",
        "another key than `allowedKeys` has",
        lambda lab: lab.asks_huawei(f"cn-north-1:{UUID}"),
        lambda lab: (lab.huawei(allowed_keys=("cn-north-1:mine",)),),
        says="allowedKeys",
    ),
)


def _ambient(provider: str, file: Callable[[Lab], bytes], key: AwsKey | GcpKey | AzureKey | VaultKey) -> Case:
    return Case(
        name=f"ambient-{provider}",
        tries=f"an identity of Krapao's own for {provider}, which its operator does not lend",
        file=file,
        keys=lambda _: (key,),
        gets="AmbientIdentityNotAllowed",
    )


IDENTITIES = (
    _ambient("vault", _strangers, VaultKey()),
    _ambient("aws", lambda lab: lab.asks_aws(), AwsKey()),
    _ambient("gcp", lambda lab: lab.asks_gcp(RESOURCE), GcpKey()),
    _ambient("azure", lambda lab: lab.asks_azure("https://x.vault.azure.net"), AzureKey()),
    *(
        Case(
            name=f"environment-{name}",
            tries=f"{what}, where the Decryptor has an age key only and Krapao's environment has credentials for it",
            file=file,
            gets="KeyMissing",
            says="no key of this kind is given",
        )
        for name, what, file in (
            ("vault", "the stranger as Vault", _strangers),
            ("aws", "a key of AWS KMS", partial(Lab.asks_aws)),
            ("gcp", "a key of GCP KMS", lambda lab: lab.asks_gcp(RESOURCE)),
            ("azure", "a key of Azure Key Vault", lambda lab: lab.asks_azure("https://x.vault.azure.net")),
            ("huawei", "a key of Huawei Cloud", lambda lab: lab.asks_huawei(f"cn-north-1:{UUID}")),
        )
    ),
)


def _recipients(lab: Lab, count: int) -> list[Mapping[str, Any]]:
    return [{"recipient": lab.other_recipient, "enc": "x"}] * count


COUNTS = (
    Case(
        name="requests-201",
        tries="201 requests for data keys, the one that opens last",
        file=lambda lab: lab.file({"age": [*_recipients(lab, 200), *lab.for_age["age"]]}),
        gets="LimitExceeded",
    ),
    Case(
        name="requests-201-of-vault",
        tries="201 requests to the named Vault",
        file=lambda lab: lab.file({"hc_vault": vault_group(lab.vault.address)["hc_vault"] * 201}),
        keys=_named,
        gets="LimitExceeded",
    ),
    Case(
        name="requests-200",
        tries="200 requests for data keys, the one that opens last",
        file=lambda lab: lab.file({"age": [*_recipients(lab, 199), *lab.for_age["age"]]}),
        gets=OPENS,
    ),
    Case(
        name="the-same-200-times",
        tries="the same data key wrapped 200 times for one recipient",
        file=lambda lab: lab.file({"age": lab.for_age["age"] * 200}),
        gets=OPENS,
        so="by the first; the others are not asked for",
    ),
    Case(
        name="one-share-200-times",
        tries="200 key groups with the same share of the data key",
        file=lambda lab: lab.file(
            {
                "key_groups": [files.for_age(files.shares(lab.data_key, 2)[0], lab.age_recipient)] * 200,
                "shamir_threshold": 2,
            }
        ),
        gets="KeyMissing",
    ),
)

CASES = (*VAULT, *AWS, *GCP, *AZURE, *HUAWEI, *IDENTITIES, *COUNTS)
