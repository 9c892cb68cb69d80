"""The types of conditions that this release writes. https://github.com/kubernetes/community (API conventions)."""

from __future__ import annotations

RECONCILING, STALLED, SUSPENDED, DRIFTED = "Reconciling", "Stalled", "Suspended", "Drifted"
"""Types of conditions that are True or absent. The first two are kstatus's, for what a tool may wait for:
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md"""

VAULT_ADDRESS_TRUSTED = "VaultAddressTrusted"
"""The condition that reports a Vault server that gets a token though only a file ever named it."""

MAC_ONLY_ENCRYPTED = "MacOnlyEncrypted"
"""The condition that reports files whose MAC covers their encrypted values only."""

CARRIAGE_RETURNS = "CarriageReturns"
"""The condition that reports values that hold a carriage return."""

STALE_RECIPIENTS = "StaleRecipients"
"""The condition that reports files encrypted for recipients that .sops.yaml does not name."""

KEY_EXPIRING = "KeyExpiring"
"""The condition that reports a key that expires soon."""

SOURCE_VERIFIED = "SourceVerified"
"""The condition that reports whether the newest revision is signed as spec.source.repository.verify wants it. It is
absent where nothing has to be signed."""

WARNINGS = (VAULT_ADDRESS_TRUSTED, STALE_RECIPIENTS, KEY_EXPIRING, MAC_ONLY_ENCRYPTED, CARRIAGE_RETURNS)
"""Conditions that report what needs attention although everything is applied."""


def is_own_condition(kind: str) -> bool:
    """Whether it is a type of condition that this release writes."""
    return kind in {"Ready", RECONCILING, STALLED, SUSPENDED, DRIFTED, SOURCE_VERIFIED, *WARNINGS}
