"""What Miwen says of a Decryptor: its status, as types. See `jiemi.core.api.decryptor`."""

from __future__ import annotations

import attrs

from jiemi.core.api.fields import api

HISTORY_LIMIT = 10
"""The most entries of status.history, as in the first version."""

MAX_OBJECTS = 2_000
"""The most objects of one Decryptor."""

MAX_INVENTORY = 2 * MAX_OBJECTS
"""The most entries of status.inventory: while one set of objects takes another's place, both are in it."""

MAX_FILES = 1_000
"""The most files of one Decryptor, as in the contract with Krapao."""

MAX_STATUS_BYTES = 1024 * 1024
"""The most that inventory and files may take together. An object in etcd is at most 1.5 MiB (etcd's
--max-request-bytes), and a status that can't be written would tell an old state for ever."""

MAX_FAILED_OBJECTS = 20
MAX_FAILED_FILES = 20
"""The most objects whose failures status tells one by one."""

MAX_WARNINGS = 50
"""The most warnings about files."""

MAX_PLANNED = 200
"""The most objects that a plan tells one by one."""


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
class FileStatus:
    """A file that is deployed whole."""

    path: str = api("Its path in the repository.")
    blob: str = api("git's hash of the file as it is in the repository; empty where it is not deployed whole.")
    config: str | None = api("git's hash of the .sops.yaml that is for it.", default=None)


@attrs.frozen
class FileWarning:
    """Something in a file that keeps it from nothing, and that a person should look at."""

    file: str = api("Its path in the repository.")
    type: str = api("The condition that reports it, for example MacOnlyEncrypted.")
    names: tuple[str, ...] = api("Names of the values that it is about.", default=())
    more: int | None = api("How many further names there are.", default=None)


@attrs.frozen
class InventoryEntry:
    """An object that was applied."""

    api_version: str = api("Its apiVersion.")
    kind: str = api("Its kind.")
    name: str = api("Its name.")
    namespace: str | None = api("Its namespace, where it has one.", default=None)
    file: str = api("The file that describes it; empty while none does, for another file can't be read.", default="")
    fields: int | None = api(
        "How many of its fields are Jiemi's: fewer later on means that another changed it.", default=None, minimum=0
    )
    kept_keys: tuple[str, ...] = api(
        "Keys of a Secret that were another's when Jiemi took it over, and so are left alone.", default=()
    )
    revision: str | None = api(
        "The full commit hash that it was applied by, where that is not status.current.revision: the newest version of "
        "some file is not deployed.",
        default=None,
    )
    left_file: str | None = api(
        "The file that last described the object, kept while another file that may describe it can't be read.",
        default=None,
    )


@attrs.frozen
class ObjectFailure:
    """An object that was not applied or not deleted."""

    kind: str = api("Its kind.")
    name: str = api("Its name.")
    reason: str = api("Why, in one word.")
    message: str = api("Why, in a sentence; never a secret's value.")
    namespace: str | None = api("Its namespace, where it has one.", default=None)
    file: str = api("The file that describes it.", default="")


@attrs.frozen
class FileFailure:
    """A file that was not read, or not whole."""

    path: str = api("Its path in the repository.")
    reason: str = api("Why, in one word.")
    message: str = api("Why, in a sentence; never a secret's value.")


@attrs.frozen
class SecretVersion:
    """A Secret that the spec names, as it was when it was used."""

    name: str = api("Its name.")
    resource_version: str = api("Its resourceVersion.")


@attrs.frozen
class PlannedObject:
    """What an apply would do to an object."""

    action: str = api(
        "Create, Change, Recreate where it would be deleted and recreated (spec.force), Prune, or Refused where it "
        "could not be applied."
    )
    kind: str = api("Its kind.")
    name: str = api("Its name.")
    namespace: str | None = api("Its namespace, where it has one.", default=None)
    file: str = api("The file that describes it.", default="")
    added: tuple[str, ...] = api("Names of fields or keys that it would get.", default=())
    changed: tuple[str, ...] = api("Names of fields or keys that would get another value.", default=())
    removed: tuple[str, ...] = api("Names of fields or keys that it would lose.", default=())
    more: int | None = api("How many further names there are.", default=None)
    message: str | None = api("Why it could not be applied.", default=None)


@attrs.frozen
class PlanStatus:
    """What mode: DryRun computed."""

    revision: str = api("The full commit hash that it is about.")
    created: int = api("How many objects would be created.", minimum=0)
    changed: int = api("How many would be changed, or deleted and recreated.", minimum=0)
    pruned: int = api("How many would be deleted.", minimum=0)
    unchanged: int = api("How many are as they should be.", minimum=0)
    objects: tuple[PlannedObject, ...] = api(
        "The objects that something would happen to, the first ones.", default=(), maxItems=MAX_PLANNED
    )
    more: int | None = api("How many further objects there are.", default=None)


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
    deployed_generation: int | None = api(
        "The spec's generation that files and inventory are of; absent while a deployment is under way or did not end.",
        default=None,
        minimum=0,
    )
    last_attempted_revision: str | None = api(
        "The full commit hash that was tried last, deployed or not.", default=None
    )
    encryption: EncryptionStatus | None = api("How the file that is deployed is encrypted, as it says.", default=None)
    vault_address: str | None = api(
        "The Vault server that the provider's token is sent to, because the first successful decryption used it and "
        "spec.provider.vault.address names none.",
        default=None,
    )
    last_handled_reconcile_at: str | None = api(
        "The annotation jiemi.cr/reconcile-at that was acted upon last.", default=None
    )
    inventory: tuple[InventoryEntry, ...] = api(
        "The objects that were applied (or are just about to be).", default=(), maxItems=MAX_INVENTORY
    )
    failed_objects: tuple[ObjectFailure, ...] = api(
        "Objects that could not be applied or deleted, the first ones.", default=(), maxItems=MAX_FAILED_OBJECTS
    )
    more_failed_objects: int | None = api(
        "How many further objects could not be applied or deleted.", default=None, minimum=0
    )
    failed_files: tuple[FileFailure, ...] = api(
        "Files that could not be read, or hold something that could not, the first ones by path.",
        default=(),
        maxItems=MAX_FAILED_FILES,
    )
    more_failed_files: int | None = api("How many further files could not be read.", default=None, minimum=0)
    files: tuple[FileStatus, ...] = api("The files that are deployed.", default=(), maxItems=MAX_FILES)
    warnings: tuple[FileWarning, ...] = api("Warnings about files, at most 50.", default=(), maxItems=MAX_WARNINGS)
    observed_secrets: tuple[SecretVersion, ...] = api(
        "The Secrets that the spec names, as they were used last.", default=(), maxItems=100
    )
    plan: PlanStatus | None = api("What mode: DryRun found that an apply would do.", default=None)
    short_revision: str | None = api(
        "The begin of status.current.revision, for kubectl get.", default=None, maxLength=64
    )
    flags: str | None = api(
        "What kubectl get shows beside Ready: Deleting, Suspended, DryRun, Pinned, Waiting, Drifted.",
        default=None,
        maxLength=256,
    )
