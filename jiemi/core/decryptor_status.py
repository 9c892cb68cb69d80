"""What Miwen says of a Decryptor: its status, as types. See `jiemi.core.decryptor`."""

from __future__ import annotations

import attrs

from jiemi.core.fields import api

HISTORY_LIMIT = 10
"""The most entries of status.history, as in the first version."""


@attrs.frozen
class StatusRecord:
    """One deployment."""

    id: int = api("Counts the deployments of this Decryptor, from 1; 0 where there was none yet.", minimum=0)
    revision: str = api("The full commit hash that is deployed; empty where none is yet.")
    file_to_decrypt: str = api("The file that was decrypted.", json_name="file_to_decrypt")
    deployed_at: str | None = api(
        "When it was deployed (RFC 3339); null where nothing was yet.", json_name="deployed_at", nullable=True
    )
    status: str = api("Sync, or NotSync when the cluster does not follow the repository.", enum=["Sync", "NotSync"])
    error_message: str | None = api(
        "Reason and message of what is wrong; null when nothing is.",
        default=None,
        json_name="error_message",
        nullable=True,
    )


@attrs.frozen
class Condition:
    """One condition, as in metav1.Condition."""

    type: str = api("Kind of condition, for example Ready.", maxLength=316)
    status: str = api("True, False or Unknown.", enum=["True", "False", "Unknown"])
    reason: str = api("Why, in one word.", maxLength=1024)
    message: str = api("Why, in a sentence; never a secret's value.", maxLength=32768)
    last_transition_time: str = api("When the status changed last (RFC 3339).", format="date-time")
    observed_generation: int | None = api("The spec's generation that this is about.", default=None, minimum=0)


@attrs.frozen
class EncryptionStatus:
    """How a file is encrypted."""

    recipients: tuple[str, ...] = api(
        "Whom it is encrypted for: kind and public name of each.", default=(), maxItems=64
    )
    last_modified: str | None = api("When it was encrypted last (RFC 3339).", default=None)
    sops_version: str | None = api("The sops release that wrote it.", default=None)
    stale_recipients: tuple[str, ...] = api(
        "Those of them that the repository's .sops.yaml does not name.", default=(), maxItems=64
    )
    key_expires_at: str | None = api(
        "When the first of the keys expires that opened it (RFC 3339); absent where none does.", default=None
    )


@attrs.frozen
class DecryptorStatus:
    """What Miwen says of a Decryptor."""

    current: StatusRecord = api("The deployment that is in the cluster now.")
    history: tuple[StatusRecord, ...] = api(
        "The deployments before it, the newest last.", default=(), nullable=True, maxItems=HISTORY_LIMIT
    )
    conditions: tuple[Condition, ...] = api(
        "Conditions; Ready is True while the cluster follows the repository.", default=(), maxItems=16
    )
    observed_generation: int | None = api("The spec's generation that this status is about.", default=None, minimum=0)
    last_attempted_revision: str | None = api(
        "The full commit hash that was tried last, deployed or not.", default=None
    )
    encryption: EncryptionStatus | None = api("How the file that is deployed is encrypted, as it says.", default=None)
    vault_address: str | None = api(
        "The Vault server that the provider's token is sent to, because the first successful decryption used it and "
        "spec.provider.vault.address names none.",
        default=None,
    )
