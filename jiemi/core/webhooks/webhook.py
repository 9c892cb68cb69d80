"""A webhook, as a Secret of the cluster declares it.

    apiVersion: v1
    kind: Secret
    metadata:
      name: app
      namespace: team-a
      labels: {jiemi.cr/webhook: github}          the kind of host: a row of `HOSTS`
      annotations:
        jiemi.cr/webhook-repositories: https://git.internal/team-a/app     optional; several have spaces between
    stringData:
      token: …                                    one secret a key, whatever the key's name; all of them count

The address that the host sends to is /webhooks/team-a/app. A Secret is the right place for three reasons. Whoever may
write Secrets in a namespace decides for that namespace, and nobody else does. Rotation is one more key. And Miwen may
read Secrets already, so no right is added.

A webhook is for the Decryptors of its own namespace. One in Jiemi's own namespace is for those of all namespaces: only
operators write Secrets there, and one webhook of an organization then serves all of its teams.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from jiemi.core.names import NamespacedName
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.hosts import HOSTS, Host, Scheme
from jiemi.core.webhooks.oidc import OidcTrust, check_trust
from jiemi.core.webhooks.repository import RepositoryKey, repository_key
from jiemi.core.webhooks.verification import MAX_SECRET_CHARACTERS, MAX_SECRETS, check_secret

LABEL = "jiemi.cr/webhook"
REPOSITORIES = "jiemi.cr/webhook-repositories"

_MAX_REPOSITORIES = 100
_MAX_ANNOTATION_CHARACTERS = 16_384


class WebhookUnusable(ValueError):
    """The Secret declares no webhook that can be used. The text says what is wrong; it holds no value of it."""


@attrs.frozen
class Webhook:
    """A webhook that is declared.

    Attributes:
        key: namespace and name of the Secret.
        kind: the host's kind.
        secrets: those that may sign, or the ARNs of topics; at least one, but none of the kind oidc.
        repositories: those that it is for, whatever a body says; empty: those that a body names.
        trust: whose tokens are taken, of a webhook of the kind oidc; None of any other.
    """

    key: NamespacedName
    kind: str
    secrets: tuple[SensitiveText, ...]
    repositories: frozenset[RepositoryKey] = frozenset()
    trust: OidcTrust | None = None

    @property
    def host(self) -> Host:
        return HOSTS[self.kind]


def read_webhook(secret: Mapping[str, Any]) -> Webhook:
    """The webhook that a Secret declares, as the API server gives it.

    Raises:
        WebhookUnusable: it declares none, or one that would prove nothing.
    """
    metadata = secret["metadata"]
    kind = str((metadata.get("labels") or {}).get(LABEL))
    if kind not in HOSTS:
        raise WebhookUnusable(f"label {LABEL}: it must be one of {', '.join(HOSTS)}")
    repositories = frozenset(_repositories((metadata.get("annotations") or {}).get(REPOSITORIES)))
    data = secret.get("data") or {}
    if not data:
        raise WebhookUnusable("it has no keys: each key's value is a secret of the webhook")
    if len(data) > MAX_SECRETS:
        raise WebhookUnusable(f"it has more than {MAX_SECRETS} keys: each is a secret of the webhook")
    if HOSTS[kind].scheme is Scheme.OIDC:
        return Webhook((metadata["namespace"], metadata["name"]), kind, (), repositories, _trust(data))
    secrets = tuple(_secret(HOSTS[kind], key, data[key]) for key in sorted(data))
    return Webhook((metadata["namespace"], metadata["name"]), kind, secrets, repositories)


_TRUST_KEYS = ("issuer", "audience", "subject")


def _trust(data: Mapping[str, Any]) -> OidcTrust:
    """Whose tokens are taken. Without an audience and a subject, a public issuer's tokens would be anyone's."""
    for key in _TRUST_KEYS:
        if key not in data:
            raise WebhookUnusable(f"it has no key {key}: one of the kind oidc needs {', '.join(_TRUST_KEYS)}")
    if others := sorted(set(data) - set(_TRUST_KEYS)):
        raise WebhookUnusable(f"key {others[0]}: one of the kind oidc has only {', '.join(_TRUST_KEYS)}")
    issuer, audience, subject = (_text(key, data[key]).reveal() for key in _TRUST_KEYS)
    if objection := check_trust(issuer, audience, subject):
        raise WebhookUnusable(f"key {objection}")
    return OidcTrust(issuer, audience, subject)


def _secret(host: Host, key: str, encoded: Any) -> SensitiveText:
    secret = _text(key, encoded)
    # One that is refused refuses all: a mistyped new secret must not be found when the old one is taken away.
    if objection := check_secret(host, secret):
        raise WebhookUnusable(f"key {key}: {objection}")
    return secret


def _text(key: str, encoded: Any) -> SensitiveText:
    if not isinstance(encoded, str) or len(encoded) > 2 * MAX_SECRET_CHARACTERS:
        raise WebhookUnusable(f"key {key}: it is too long")
    try:
        # Files and `echo` end with a line break that nobody means.
        return SensitiveText(base64.b64decode(encoded, validate=True).decode("utf-8").rstrip("\r\n"))
    except ValueError:  # binascii's and Unicode's errors are such; so is that of base64 for what is not ASCII
        # Not chained: the error of the decoder holds the value.
        raise WebhookUnusable(f"key {key}: it is no text") from None


def _repositories(text: Any) -> Iterator[RepositoryKey]:
    if text is None:
        return
    urls = text.split() if isinstance(text, str) and len(text) <= _MAX_ANNOTATION_CHARACTERS else []
    if not urls or len(urls) > _MAX_REPOSITORIES:
        raise WebhookUnusable(
            f"annotation {REPOSITORIES}: it must be 1 to {_MAX_REPOSITORIES} URLs with spaces between"
        )
    for number, url in enumerate(urls, 1):
        key = repository_key(url)
        if key is None:
            raise WebhookUnusable(f"annotation {REPOSITORIES}: its entry {number} is no URL of a repository")
        yield key
