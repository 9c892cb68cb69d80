"""The status of a Decryptor, as types. See `jiemi.core.api.decryptor`."""

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
--max-request-bytes), and where a status can't be written, the old one would stay for ever."""

MAX_FAILED_OBJECTS = 20
MAX_FAILED_FILES = 20
"""The most objects and files whose failures status lists one by one."""

MAX_WARNINGS = 50
"""The most warnings about files."""

MAX_PLANNED = 200
"""The most objects that a plan lists one by one."""


@attrs.frozen
class StatusRecord:
    """One deployment."""

    id: int = api("Number of this deployment of the Decryptor, from 1. It is 0 before the first.", minimum=0)
    revision: str = api("Full hash of the commit that was deployed. It is empty before the first deployment.")
    file_to_decrypt: str = api("File that was decrypted.", json_name="file_to_decrypt")
    deployed_at: str | None = api(
        "Time of the deployment (RFC 3339). It is null before the first.", json_name="deployed_at", nullable=True
    )
    status: str = api("Sync, or NotSync while the cluster does not match the repository.", enum=["Sync", "NotSync"])
    error_message: str | None = api(
        "Reason and message of what is wrong. It is null while nothing is.",
        default=None,
        json_name="error_message",
        nullable=True,
    )


@attrs.frozen
class Condition:
    """One condition, as in metav1.Condition."""

    type: str = api("Type of the condition, for example Ready.", maxLength=316)
    status: str = api("Status of the condition: True, False or Unknown.", enum=["True", "False", "Unknown"])
    reason: str = api("Reason for the status, in one word.", maxLength=1024)
    message: str = api("Reason for the status, as text. It never contains a secret's value.", maxLength=32768)
    last_transition_time: str = api("Time when the status last changed (RFC 3339).", format="date-time")
    observed_generation: int | None = api(
        "Generation of the spec that the condition is about.", default=None, minimum=0
    )


@attrs.frozen
class EncryptionStatus:
    """Recipients and age of a file's encryption."""

    recipients: tuple[str, ...] = api("Recipients of the file, by kind and public name.", default=(), maxItems=64)
    last_modified: str | None = api("Time when the file was last encrypted (RFC 3339).", default=None)
    sops_version: str | None = api("Release of sops that wrote the file.", default=None)
    stale_recipients: tuple[str, ...] = api(
        "Recipients of the file that the repository's .sops.yaml does not name.", default=(), maxItems=64
    )
    key_expires_at: str | None = api(
        "Time when the first of the keys that decrypted the file expires (RFC 3339). It is absent where none expires.",
        default=None,
    )


@attrs.frozen
class FileStatus:
    """A file whose objects are all deployed."""

    path: str = api("Path of the file in the repository.")
    blob: str = api(
        "git's hash of the file in the repository. It is empty where not all of the file's objects are deployed."
    )
    config: str | None = api("git's hash of the .sops.yaml that applies to the file.", default=None)


@attrs.frozen
class FileWarning:
    """A problem in a file that does not prevent its deployment, and that a person should look at."""

    file: str = api("Path of the file in the repository.")
    type: str = api("Type of the condition that reports it, for example MacOnlyEncrypted.")
    names: tuple[str, ...] = api("Names of the values that the warning is about.", default=())
    more: int | None = api("Number of further names.", default=None)


@attrs.frozen
class InventoryEntry:
    """An object that was applied."""

    api_version: str = api("apiVersion of the object.")
    kind: str = api("Kind of the object.")
    name: str = api("Name of the object.")
    namespace: str | None = api("Namespace of the object, if it has one.", default=None)
    file: str = api(
        "File that describes the object. It is empty while no file does and another file can't be read.", default=""
    )
    fields: int | None = api(
        "Number of the object's fields that Jiemi owns. If it is lower later, somebody else changed the object.",
        default=None,
        minimum=0,
    )
    kept_keys: tuple[str, ...] = api(
        "Keys of the Secret that belonged to others when Jiemi took it over. Jiemi does not change them.", default=()
    )
    revision: str | None = api(
        "Full hash of the commit that the object was applied from, if it is not status.current.revision because the "
        "newest version of its file is not deployed.",
        default=None,
    )
    left_file: str | None = api(
        "File that last described the object. It is kept while another file that may describe it can't be read.",
        default=None,
    )


@attrs.frozen
class ObjectFailure:
    """An object that was not applied or not deleted."""

    kind: str = api("Kind of the object.")
    name: str = api("Name of the object.")
    reason: str = api("Reason for the failure, in one word.")
    message: str = api("Reason for the failure, as text. It never contains a secret's value.")
    namespace: str | None = api("Namespace of the object, if it has one.", default=None)
    file: str = api("File that describes the object.", default="")


@attrs.frozen
class FileFailure:
    """A file that was not read, or not completely."""

    path: str = api("Path of the file in the repository.")
    reason: str = api("Reason for the failure, in one word.")
    message: str = api("Reason for the failure, as text. It never contains a secret's value.")


@attrs.frozen
class SecretVersion:
    """The version of a Secret that the spec names, when it was last used."""

    name: str = api("Name of the Secret.")
    resource_version: str = api("resourceVersion of the Secret.")


@attrs.frozen
class VerificationStatus:
    """Who signed the newest revision whose signatures were good."""

    revision: str = api("Full hash of the commit.")
    mode: str = api("What was signed: Commit, Tag or TagAndCommit.")
    signer: str | None = api(
        "Name of the signer of the commit: the principals of the ssh key, or the entry of the Secret with the key.",
        default=None,
        maxLength=253,
    )
    key: str | None = api("Fingerprint of the key that signed the commit.", default=None)
    tag: str | None = api("Full name of the tag that was verified.", default=None)
    tag_signer: str | None = api("Name of the signer of the tag.", default=None, maxLength=253)
    tag_key: str | None = api("Fingerprint of the key that signed the tag.", default=None)
    expires_at: str | None = api(
        "Time when the first of the keys and signatures expires (RFC 3339). It is absent where none does.", default=None
    )


@attrs.frozen
class PlannedObject:
    """An object and what an apply would do to it."""

    action: str = api(
        "What would happen to the object: Create, Change, Recreate (delete and create it again, with spec.force), "
        "Prune, or Refused if it could not be applied."
    )
    kind: str = api("Kind of the object.")
    name: str = api("Name of the object.")
    namespace: str | None = api("Namespace of the object, if it has one.", default=None)
    file: str = api("File that describes the object.", default="")
    added: tuple[str, ...] = api("Names of fields or keys that would be added.", default=())
    changed: tuple[str, ...] = api("Names of fields or keys whose values would change.", default=())
    removed: tuple[str, ...] = api("Names of fields or keys that would be removed.", default=())
    more: int | None = api("Number of further names.", default=None)
    message: str | None = api("Reason why the object could not be applied.", default=None)


@attrs.frozen
class PlanStatus:
    """The changes that mode: DryRun found."""

    revision: str = api("Full hash of the commit that the plan is about.")
    created: int = api("Number of objects that would be created.", minimum=0)
    changed: int = api("Number of objects that would be changed, or deleted and recreated.", minimum=0)
    pruned: int = api("Number of objects that would be pruned.", minimum=0)
    unchanged: int = api("Number of objects that would not change.", minimum=0)
    objects: tuple[PlannedObject, ...] = api(
        "The first of the objects that would change.", default=(), maxItems=MAX_PLANNED
    )
    more: int | None = api("Number of further objects that would change.", default=None)


@attrs.frozen
class DecryptorStatus:
    """The state of a Decryptor, as Miwen last wrote it."""

    current: StatusRecord = api("Deployment that is in the cluster now.")
    history: tuple[StatusRecord, ...] = api(
        "Earlier deployments, the newest last.", default=(), nullable=True, maxItems=HISTORY_LIMIT
    )
    conditions: tuple[Condition, ...] = api(
        "Conditions of the Decryptor. Ready is True while the cluster matches the repository.", default=(), maxItems=16
    )
    observed_generation: int | None = api("Generation of the spec that the status is about.", default=None, minimum=0)
    deployed_generation: int | None = api(
        "Generation of the spec that files and inventory belong to. It is absent while a deployment runs or after one "
        "that did not finish.",
        default=None,
        minimum=0,
    )
    last_attempted_revision: str | None = api(
        "Full hash of the commit that was last tried, whether or not it was deployed.", default=None
    )
    ref: str | None = api(
        "Full name of the ref whose commit was last tried: of a branch, of the tag that semver chose. It is absent "
        "where spec.source.repository.ref.commit names the commit.",
        default=None,
        maxLength=1024,
    )
    verification: VerificationStatus | None = api(
        "Signatures of the newest revision that was verified. It is absent where spec.source.repository.verify is.",
        default=None,
    )
    encryption: EncryptionStatus | None = api(
        "Encryption of the deployed file, according to its own metadata.", default=None
    )
    vault_address: str | None = api(
        "Vault server that the provider's token is sent to because the first successful decryption used it and "
        "spec.provider.vault.address names none.",
        default=None,
    )
    last_handled_reconcile_at: str | None = api(
        "Value of the annotation jiemi.cr/reconcile-at that was last acted on.", default=None
    )
    inventory: tuple[InventoryEntry, ...] = api(
        "Objects that were applied or are about to be.", default=(), maxItems=MAX_INVENTORY
    )
    failed_objects: tuple[ObjectFailure, ...] = api(
        "The first of the objects that could not be applied or deleted.", default=(), maxItems=MAX_FAILED_OBJECTS
    )
    more_failed_objects: int | None = api(
        "Number of further objects that could not be applied or deleted.", default=None, minimum=0
    )
    failed_files: tuple[FileFailure, ...] = api(
        "The first of the files, by path, that could not be read completely.",
        default=(),
        maxItems=MAX_FAILED_FILES,
    )
    more_failed_files: int | None = api(
        "Number of further files that could not be read completely.", default=None, minimum=0
    )
    files: tuple[FileStatus, ...] = api("Files that are deployed.", default=(), maxItems=MAX_FILES)
    warnings: tuple[FileWarning, ...] = api("Warnings about files.", default=(), maxItems=MAX_WARNINGS)
    observed_secrets: tuple[SecretVersion, ...] = api(
        "Versions of the Secrets that the spec names, when they were last used.", default=(), maxItems=100
    )
    plan: PlanStatus | None = api("Changes that an apply would make, while mode is DryRun.", default=None)
    short_revision: str | None = api(
        "First characters of status.current.revision, for kubectl get.", default=None, maxLength=64
    )
    flags: str | None = api(
        "States that kubectl get shows beside Ready: Deleting, Suspended, DryRun, Pinned, Waiting, Drifted.",
        default=None,
        maxLength=256,
    )
