"""The operator's policy: which repositories, files and recipients may make objects, and in which namespaces.

So ciphertext that is copied into another tenant's repository is not decrypted there, even where the key would open it.
Without a policy everything is allowed; with one, only what a rule allows. A rule is for the Decryptors of its
namespaces, and takes a Decryptor whose repository and file it lists. Then only its recipients may be asked for the
file's data key, and only objects in its `objectNamespaces` may come of it.

    rules:
      - namespaces: [team-a, "team-a-*"]
        repositories: ["https://git.example.com/team-a/**"]
        paths: ["**"]
        recipients: ["age1…", "arn:aws:kms:*:111122223333:key/*"]
        objectNamespaces: [team-a]
        keyServices: ["https://vault.example.com"]
        requireFullMac: true
        requireVerify: true
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

import attrs
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jiemi.core.addresses import normal_address
from jiemi.core.api.fields import FieldError, api, structure
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.patterns import matches

_ALL = ("**",)

_NEVER_EMPTY = ("namespaces", "repositories", "paths", "recipients")
"""Fields of a rule of which an empty list says nothing certain."""

PUBLIC_KEY_SERVICES = (
    *("https://kms.REGION.amazonaws.com", "https://kms-fips.REGION.amazonaws.com"),
    *("https://kms.REGION.amazonaws.com.cn", "https://sts.REGION.amazonaws.com.cn"),
    *("https://sts.amazonaws.com", "https://sts.REGION.amazonaws.com"),
    *("https://cloudkms.googleapis.com", "https://cloudkms.LABEL.rep.googleapis.com"),
    *("https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"),
    "https://www.googleapis.com/oauth2/v4/token",
    *("https://login.microsoftonline.com", "https://login.microsoftonline.us", "https://login.chinacloudapi.cn"),
    "https://login.partner.microsoftonline.cn",
    *("https://LABEL.vault.azure.net", "https://LABEL.vault.azure.cn", "https://LABEL.vault.usgovcloudapi.net"),
    *("https://LABEL.managedhsm.azure.net", "https://LABEL.managedhsm.azure.cn"),
    "https://LABEL.managedhsm.usgovcloudapi.net",
)
"""The clouds' own servers for keys and logins. What is sent there, nobody but the cloud gets to see.

LABEL is one label of a name and REGION the name of a region, and nothing else: below `amazonaws.com` customers have
names of their own too (`BUCKET.s3.amazonaws.com`). The stars of an operator's patterns, which reach over dots, would
take those. https://docs.aws.amazon.com/general/latest/gr/kms.html,
https://docs.aws.amazon.com/general/latest/gr/sts.html, https://cloud.google.com/kms/docs/reference/rest,
https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud,
https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#dns-suffixes-for-object-identifiers"""


_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_REGION = "[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}"
_PUBLIC = re.compile(
    "|".join(re.escape(each).replace("LABEL", _LABEL).replace("REGION", _REGION) for each in PUBLIC_KEY_SERVICES)
)


@attrs.frozen(kw_only=True)
class PolicyRule:
    """What is allowed to the Decryptors of some namespaces. All fields but the last two are patterns (`core.patterns`).

    Attributes:
        namespaces: whose Decryptors it is for.
        repositories: URLs, as in spec.source.repository.url.
        paths: of the encrypted file in the repository.
        recipients: public names of the master keys that may be asked: an age recipient, a fingerprint, an ARN, a
            resource id, URL/keys/NAME/VERSION, URL/v1/MOUNT/keys/NAME, REGION:UUID.
        object_namespaces: of the objects that may be applied; "" stands for objects without one, which no star does.
            Empty for the Decryptor's own only.
        key_services: addresses (SCHEME://HOST[:PORT][/PATH]) of key services that may get credentials, beside the
            clouds' own public ones. Empty: only those.
        require_full_mac: whether a file is refused whose MAC covers its encrypted values only (`mac_only_encrypted`).
        require_verify: whether the Decryptor must want signed revisions (spec.source.repository.verify).
    """

    namespaces: tuple[str, ...] = api("")
    repositories: tuple[str, ...] = api("", default=_ALL)
    paths: tuple[str, ...] = api("", default=_ALL)
    recipients: tuple[str, ...] = api("", default=_ALL)
    object_namespaces: tuple[str, ...] = api("", default=())
    key_services: tuple[str, ...] = api("", default=())
    require_full_mac: bool = api("", default=False)
    require_verify: bool = api("", default=False)

    @property
    def vault_addresses(self) -> tuple[str, ...] | None:
        """Patterns of the Vault servers that may get a token; None where `recipients` bound them: a rule of before
        there was `keyServices` names the server there, as the beginning of a key's name."""
        if not self.key_services and any(each.startswith(("https://", "http://")) for each in self.recipients):
            return None
        return self.key_services

    def require_key_service(self, address: str, *, field: str) -> None:
        """Refuse to send credentials to a server that the rule does not list.

        Args:
            address: of the server, as the spec or a Secret names it; it is not quoted where it is refused.
            field: that names it, for the message.

        Raises:
            JiemiError: PolicyDenied.
        """
        normal = normal_address(address)
        if normal is None or not (_PUBLIC.fullmatch(normal) or _any(normal, self.key_services)):
            raise JiemiError(
                "PolicyDenied",
                f"the operator's policy: the address in {field} is in no keyServices of the rule for this Decryptor",
            )


@attrs.frozen
class Policy:
    """All rules. With none, nothing is allowed."""

    rules: tuple[PolicyRule, ...] = api("")

    def require_repository(self, *, namespace: str, url: str, is_verified: bool = True) -> None:
        """Refuse a repository that no rule of the namespace takes, whatever the file.

        Args:
            is_verified: whether the Decryptor wants signed revisions.

        Raises:
            JiemiError: PolicyDenied.
        """
        _require_plain(url)
        taking = [rule for rule in self._for(namespace) if _any(url, rule.repositories)]
        if not taking:
            raise _denied("spec.source.repository.url is in none of the rules", namespace)
        if not is_verified and all(rule.require_verify for rule in taking):
            raise _not_verified(namespace)

    def rule_for(self, *, namespace: str, url: str, path: str, is_verified: bool = True) -> PolicyRule:
        """The first rule that takes a Decryptor.

        Args:
            is_verified: as of `require_repository`.

        Raises:
            JiemiError: PolicyDenied.
        """
        _require_plain(url)
        for rule in self._for(namespace):
            if _any(url, rule.repositories) and _any(path, rule.paths):
                if rule.require_verify and not is_verified:
                    raise _not_verified(namespace)
                return rule
        raise _denied(f"spec.source.repository.url or the file {path} is in none of the rules", namespace)

    def _for(self, namespace: str) -> list[PolicyRule]:
        """Raises JiemiError: PolicyDenied: there are none."""
        rules = [rule for rule in self.rules if _any(namespace, rule.namespaces)]
        if not rules:
            raise JiemiError("PolicyDenied", f"the operator's policy: no rule is for namespace {namespace}")
        return rules


def _denied(what: str, namespace: str) -> JiemiError:
    return JiemiError("PolicyDenied", f"the operator's policy: {what} for namespace {namespace}")


def _not_verified(namespace: str) -> JiemiError:
    return JiemiError(
        "PolicyDenied",
        f"the operator's policy wants signed commits or tags in namespace {namespace}, and the spec has no "
        "spec.source.repository.verify",
        "Set spec.source.repository.verify, with the signers' public keys in a Secret.",
    )


def _require_plain(url: str) -> None:
    if not _plain(url):
        raise JiemiError(
            "PolicyDenied",
            "the operator's policy: spec.source.repository.url must be plain: no .., //, %, ?, # or \\ in it, and no / "
            "at its end",
        )


def require_namespace(rule: PolicyRule, ref: ObjectRef, *, namespace: str) -> None:
    """Refuse an object in a namespace that a rule does not allow, or in none.

    Args:
        ref: the object; its namespace is "" where its kind has none.
        namespace: the Decryptor's.

    Raises:
        JiemiError: PolicyDenied, naming the object.
    """
    allowed = rule.object_namespaces or (namespace,)
    # A * is for namespaces: who allows any of them has not yet allowed a ClusterRoleBinding.
    if not (_any(ref.namespace, allowed) if ref.namespace else "" in allowed):
        where = f"in namespace {ref.namespace}" if ref.namespace else "without a namespace"
        raise JiemiError("PolicyDenied", f"the operator's policy allows no object {where}: {ref.label}")


def read_policy(text: str) -> Policy:
    """Read a policy file (YAML).

    Raises:
        ValueError: it is none; the text names the field.
    """
    try:
        value: Any = YAML(typ="safe", pure=True).load(io.StringIO(text))
    except YAMLError as error:
        raise ValueError(f"it is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict) or set(value) - {"rules"}:
        raise ValueError("it must be a mapping with the one field rules")
    known = {
        *("namespaces", "repositories", "paths", "recipients", "objectNamespaces"),
        *("keyServices", "requireFullMac", "requireVerify"),
    }
    rules = value.get("rules")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        unknown = set(rule) - known if isinstance(rule, dict) else ()
        if unknown:  # a misspelt bound would be no bound
            raise ValueError(f"unknown field {min(map(str, unknown))} @ rules[{index}]")
        for field in _NEVER_EMPTY:
            if isinstance(rule, dict) and rule.get(field) == []:
                # Nothing, or no bound? Krapao takes no recipients for the latter.
                raise ValueError(
                    f"an empty list: list what is allowed, or leave the field out @ rules[{index}].{field}"
                )
    try:
        return structure(value, Policy, "policy")
    except FieldError as error:
        raise ValueError(str(error)) from error


def _plain(url: str) -> bool:
    """Whether a URL means what it looks like: a host may read other forms as another repository's."""
    if re.search(r"[%?#\\\s]", url) is not None or {".", ".."} & set(re.split(r"[/:]", url)):
        return False
    # Krapao takes an empty part and a slash at the end for none, but a pattern's star takes them for a name.
    rest = url.partition("://")[2] or url
    return "//" not in rest and not rest.endswith("/")


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(matches(name, pattern) for pattern in patterns)
