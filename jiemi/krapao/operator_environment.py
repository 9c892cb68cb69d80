"""What Krapao's operator gives to the processes that hold credentials: proxies, and the identity of Krapao's Pod."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.patterns import matches

AMBIENT_PROVIDERS = ("aws", "gcp", "azure", "vault")

_AMBIENT_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "aws": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ),
    "gcp": ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"),
    "azure": (
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_AUTHORITY_HOST",
    ),
    "vault": ("VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"),
}

_HUAWEI_ENDPOINTS = ("HUAWEICLOUD_SDK_REGION_KMS_", "HUAWEICLOUD_SDK_IAM_ENDPOINT")
"""Where an operator's cloud is not the public one. Its library takes no proxy."""

_OTHER_SPELLING = re.compile(r"(?<![:/])//|/\.{1,2}(/|$)|%2[5ef]|%5c", re.IGNORECASE)
"""In a repository's URL, a path that a host may read as another one than it says."""


@attrs.frozen
class AmbientBounds:
    """What the operator lends identities of Krapao's own for.

    A Decryptor that names no credential can be of any namespace, and whoever writes to its repository writes the file.
    So both which keys may be asked with such an identity, and which repositories' files, are the operator's to say.
    Patterns are those of `jiemi.core.patterns`.

    Attributes:
        keys: by provider, patterns of the names of keys; only providers whose identity is lent are in it.
        repositories: patterns of URLs.
    """

    keys: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    repositories: tuple[str, ...] = ()

    def refusal(self, provider: str, key_name: str, repository: str) -> JiemiError | None:
        """Why a key may not be asked for with Krapao's own identity, for a file of that repository; None where it may.

        Args:
            key_name: the key's name as the guard sees it, its service's own form.
            repository: the repository's URL.
        """
        if _OTHER_SPELLING.search(repository) or not any(matches(repository, each) for each in self.repositories):
            return JiemiError(
                "AmbientIdentityNotAllowed",
                f"Krapao's operator does not lend its {provider} identity to the repository of this Decryptor",
                f"Give credentials in spec.provider.{provider}, or ask the operator for --ambient-repository.",
            )
        if not any(matches(key_name, pattern) for pattern in self.keys.get(provider, ())):
            return JiemiError(
                "AmbientIdentityNotAllowed",
                f"Krapao's operator does not lend its {provider} identity for the key that the file names",
                f"Give credentials in spec.provider.{provider}, or ask the operator for --ambient-key.",
            )
        return None


@attrs.frozen
class OperatorEnvironment:
    """What Krapao's operator gives to the holders of key services in the net.

    Attributes:
        network: proxies and authorities: HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, ….
        ambient: by provider, the variables of the pod's own identity; only providers that may use it are in it.
        bounds: what those identities may be used for.
    """

    network: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    ambient: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict, repr=False)
    bounds: AmbientBounds = AmbientBounds()

    @classmethod
    def of(cls, environment: Mapping[str, str], bounds: AmbientBounds) -> OperatorEnvironment:
        """Take what is meant for holders out of Krapao's own environment.

        Args:
            bounds: the providers whose ambient identity may be used, and what for.
        """
        names = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE")
        ambient = {
            provider: {name: environment[name] for name in _AMBIENT_VARIABLES[provider] if environment.get(name)}
            for provider in bounds.keys
        }
        network = {name: environment[name] for name in names if environment.get(name)}
        network |= {name: value for name, value in environment.items() if name.startswith(_HUAWEI_ENDPOINTS)}
        return cls(network, ambient, bounds)

    def identity(self, provider: str) -> Mapping[str, str]:
        """The variables of the pod's own identity.

        Raises:
            JiemiError: AmbientIdentityNotAllowed.
        """
        found = self.ambient.get(provider)
        if found is None:
            raise JiemiError(
                "AmbientIdentityNotAllowed",
                f"spec.provider.{provider} names no credential, and this Krapao lends none of its own",
                f"Give credentials in spec.provider.{provider}, or ask the operator for --allow-ambient-identity "
                f"{provider}.",
            )
        return found
