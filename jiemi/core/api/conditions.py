"""The types of conditions that this release writes. https://github.com/kubernetes/community (API conventions)."""

from __future__ import annotations

RECONCILING, STALLED, SUSPENDED, DRIFTED = "Reconciling", "Stalled", "Suspended", "Drifted"
"""Types of conditions that are True or absent. The first two are kstatus's, for what a tool may wait for:
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md"""

VAULT_ADDRESS_TRUSTED = "VaultAddressTrusted"
"""The condition that tells of a Vault server that gets a token though nothing but a file ever named it."""

MAC_ONLY_ENCRYPTED = "MacOnlyEncrypted"
"""The condition that tells of files whose MAC covers their encrypted values only."""

CARRIAGE_RETURNS = "CarriageReturns"
"""The condition that tells of values that hold a carriage return."""

STALE_RECIPIENTS = "StaleRecipients"
"""The condition that tells of files encrypted for others than .sops.yaml names."""

KEY_EXPIRING = "KeyExpiring"
"""The condition that tells of a key that expires soon."""

WARNINGS = (VAULT_ADDRESS_TRUSTED, STALE_RECIPIENTS, KEY_EXPIRING, MAC_ONLY_ENCRYPTED, CARRIAGE_RETURNS)
"""Those that tell what is to be looked at though all is applied."""


def is_own_condition(kind: str) -> bool:
    """Whether it is a type of condition that this release writes."""
    return kind in {"Ready", RECONCILING, STALLED, SUSPENDED, DRIFTED, *WARNINGS}
