"""The table of reasons: everything that can go wrong and that a user can meet.

A *reason* is a stable CamelCase name. Its row says what happens next (its `Kind`), what it means, and what to do about
it. The status, Events, the log and the command line take their texts from this table, and the table of
docs/troubleshooting.md is generated from it; a test compares the two.

`jiemi.core.errors` has the failures that carry a reason.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs


class Kind(enum.Enum):
    """What happens next. The words are those of fluxcd's error package."""

    STALLED = "stalled"
    """The user must act: only a change of the spec, a Secret or the repository helps."""
    WAITING = "waiting"
    """Something that this depends on is not there yet; it is asked for again soon."""
    TRANSIENT = "transient"
    """It may work when tried again."""


@attrs.frozen
class ReasonInfo:
    """One row of the table of reasons."""

    kind: Kind
    meaning: str
    remedy: str


def _stalled(meaning: str, remedy: str) -> ReasonInfo:
    return ReasonInfo(Kind.STALLED, meaning, remedy)


def _waiting(meaning: str, remedy: str) -> ReasonInfo:
    return ReasonInfo(Kind.WAITING, meaning, remedy)


def _transient(meaning: str, remedy: str) -> ReasonInfo:
    return ReasonInfo(Kind.TRANSIENT, meaning, remedy)


NO_ANSWER = frozenset({"ClusterUnavailable", "ClusterAccessDenied"})
"""Reasons for which nothing can be said of any object: the API server tells nothing."""

REASONS: Mapping[str, ReasonInfo] = {
    # The Decryptor itself
    "InvalidSpec": _stalled(
        "A field of the Decryptor is missing, contradicts another or has the wrong form.",
        "Correct the field that the message names.",
    ),
    "ProviderNotSupportedYet": _stalled(
        "Krapao is of an older release than Miwen, and does not know the provider, or what else the spec asks for.",
        "Bring Krapao to the release of Miwen.",
    ),
    "DependencyNotReady": _waiting(
        "A Decryptor that `dependsOn` names is not ready, or does not exist.",
        "Nothing, if it is coming: this one goes on as soon as it is ready. Otherwise look at that Decryptor.",
    ),
    "DependencyCycle": _stalled(
        "Decryptors depend on one another in a circle, so none of them can be the first.",
        "Take one of the names out of `dependsOn`; the message shows the circle.",
    ),
    "CrossNamespaceDenied": _stalled(
        "The Decryptor names something outside its own namespace, and Miwen runs with `--no-cross-namespace`.",
        "Keep to the Decryptor's namespace, or ask the operator.",
    ),
    "NamespaceProtected": _stalled(
        "The Decryptor is in the namespace that Jiemi itself runs in, whose Secrets and accounts are Jiemi's own.",
        "Move the Decryptor to another namespace. Nothing that it applied is deleted meanwhile.",
    ),
    "NamespaceLimitExceeded": _stalled(
        "The Decryptors of one namespace, with their statuses and credentials, take more memory than Miwen grants one "
        "namespace; the message says how much. What the Decryptor deployed stays.",
        "Have fewer Decryptors in the namespace (one may have many files) or smaller credentials; or give Miwen more "
        "memory and `--decryptor-memory`. It resumes by itself once there is room.",
    ),
    # Credentials
    "SecretNotFound": _waiting(
        "A Secret that the spec names does not exist in the Decryptor's namespace.",
        "Create the Secret, or correct `secretName`.",
    ),
    "SecretKeyNotFound": _waiting(
        "The Secret exists but has no such key.",
        "Add the key to the Secret, or correct `key`.",
    ),
    "SecretValueEmpty": _waiting(
        "The Secret's key exists but its value is empty or is not text.",
        "Put the credential into the Secret.",
    ),
    "CredentialTooLarge": _stalled(
        "A credential value, or all of one provider or repository together, is larger than the limit for it.",
        "Put the credential alone under the Secret's key: the message names the field, its size and the limit.",
    ),
    "SecretForbidden": _stalled(
        "Miwen may not read Secrets in this namespace.",
        "Grant `get` on Secrets there to Miwen's ServiceAccount (deploy/rbac.yaml does).",
    ),
    # The repository
    "InvalidUrl": _stalled(
        "The repository's URL can't be used: no host, an unknown scheme, or a credential inside it.",
        "Use https://, http://, ssh://, git:// or user@host:path, and put credentials into `credentials`.",
    ),
    "SchemeNotAllowed": _stalled(
        "Krapao does not allow this kind of URL.",
        "Use another one; `file://` needs `jiemi krapao --allow-file-urls`.",
    ),
    "AddressNotAllowed": _stalled(
        "The host is at an address that Krapao does not connect to: loopback, link-local, a metadata service's, or one "
        "that the operator denies.",
        "Name another host, or ask the operator to allow the address (`jiemi krapao --allow-address`).",
    ),
    "HostUnreachable": _transient(
        "No git server answered at the repository's host: its name is unknown, it is down, its port is closed or "
        "filtered, or what answers is no git server. Krapao's log says which.",
        "Check the URL, DNS and network policies; Jiemi tries again.",
    ),
    "RepositoryNotFound": _stalled(
        "The host answers but has no such repository (many hosts also say so for missing credentials).",
        "Check the URL and, for a private repository, the credentials.",
    ),
    "RepositoryAccessDenied": _stalled(
        "The host refused the repository's credentials, or wants some.",
        "Correct `credentials.username`, `credentials.token` or `credentials.ssh`.",
    ),
    "HostKeyUnknown": _stalled(
        "The ssh host's key is not among the known ones, or is another.",
        "Add the host's line to `credentials.knownHosts` or to Krapao's `--ssh-known-hosts` file.",
    ),
    "TlsVerificationFailed": _stalled(
        "The host's TLS certificate could not be verified.",
        "Ask the operator to give Krapao the certificate of the authority that signed the host's (`jiemi krapao "
        "--ca-bundle`), or use a host whose certificate Krapao trusts.",
    ),
    "RefNotFound": _stalled(
        "The repository has no such branch, tag or commit (or is empty), or its host does not give that commit.",
        "Correct `repository.ref`, or push the branch again.",
    ),
    "RevisionNotFound": _transient(
        "The revision that was asked for is no longer in the repository.",
        "Nothing: the newest revision is asked for at the next tick.",
    ),
    "GitProtocolError": _transient(
        "The git server refuses for the moment, broke off, or its answer breaks git's protocol.",
        "Nothing, if it passes: Jiemi tries again. If it lasts, look at the git server and at what is between it and "
        "Krapao.",
    ),
    "StorageFailed": _transient(
        "Krapao could not write its clone: its volume is full of clones that are in use, read-only or damaged.",
        "Look at Krapao's volume. Krapao fetches a damaged clone again by itself.",
    ),
    # The file
    "FileNotFound": _stalled(
        "The revision has no file at `fileToDecrypt`, at a plain path of `files`, or at `sopsPath`; the message says "
        "which.",
        "Correct the path, or commit the file.",
    ),
    "NotAFile": _stalled(
        "The path is a directory, a symbolic link or a submodule.",
        "Name a regular file.",
    ),
    "LimitExceeded": _stalled(
        "The file, what it decrypts to, the time that takes, or what a namespace's clones take of Krapao's volume is "
        "beyond the limit that the message names.",
        "Make the file smaller or follow fewer repositories, or raise Krapao's limit.",
    ),
    "NotEncrypted": _stalled(
        "The file has no SOPS metadata: it is not encrypted with SOPS.",
        "Encrypt it with `sops encrypt --in-place FILE`, or correct the path.",
    ),
    "UnknownFormat": _stalled(
        "The file's name or content is no format that can be applied.",
        "Correct the file where the message says; an encrypted one with `sops edit FILE`.",
    ),
    # The key
    "KeyMissing": _stalled(
        "None of the keys given can open the file's data key.",
        "Give a key for one of the file's recipients, or add yours with `sops updatekeys`.",
    ),
    "KeyServiceDenied": _stalled(
        "A key service (AWS KMS, GCP KMS, Azure Key Vault, Vault, Huawei Cloud KMS) refused the credentials, or "
        "refused them this key.",
        "Correct the provider's credentials, or let them use the key (its policy must allow decrypting).",
    ),
    "KeyServiceUnreachable": _transient(
        "A key service could not be reached, did not answer in time, or asked to be spared.",
        "Check network policies, proxies and the service's address; it is tried again.",
    ),
    "KeyHolderFailed": _transient(
        "The process that holds the Decryptor's credentials ended or hung.",
        "Nothing: it is started again; if it lasts, look at Krapao's log and its memory limit.",
    ),
    "DestinationNotAllowed": _stalled(
        "The file asks for a server, role or key that neither the Decryptor nor Krapao's operator names.",
        "If it is meant, add what the message names to the spec; otherwise find out who changed the file.",
    ),
    "PolicyDenied": _stalled(
        "The operator's policy does not allow this repository, file, recipient or namespace here.",
        "Ask the operator for a rule that allows it (Miwen's `--policy` file).",
    ),
    "AmbientIdentityNotAllowed": _stalled(
        "The provider names no credential, and Krapao lends no identity of its own Pod for it, or not for this key or "
        "repository.",
        "Give credentials in the provider, or ask the operator for `--allow-ambient-identity`, `--ambient-key` and "
        "`--ambient-repository`.",
    ),
    "KeyInvalid": _stalled(
        "A key given is not a key of its kind.",
        "Correct the value in the literal or Secret that the message names.",
    ),
    "MacMismatch": _stalled(
        "The file was changed after it was encrypted: its checksum (SOPS MAC) or a value does not verify.",
        "Edit it with `sops edit FILE` only; restore the last good commit if nobody of your team did this.",
    ),
    "MacOnlyEncrypted": _stalled(
        "The file's MAC covers only its encrypted values (`mac_only_encrypted`), and the operator refuses such files.",
        "Take `mac_only_encrypted` out of the .sops.yaml, decrypt the file and encrypt it again.",
    ),
    "DecryptionFailed": _stalled(
        "sops could not decrypt the file for another reason, which the message tells as far as it is safe.",
        "Try `sops decrypt FILE` with the same key.",
    ),
    "SopsMissing": _waiting(
        "Krapao finds no `sops` program.",
        "Put it on Krapao's PATH (the image has it) or give `--sops PATH`; `jiemi tools sops` gets one and says where.",
    ),
    "GpgMissing": _waiting(
        "A pgp key needs the `gpg` program, and Krapao finds none.",
        "Install GnuPG beside Krapao (the image has it) or give `--gpg PATH`.",
    ),
    # The objects
    "NotAKubernetesObject": _stalled(
        "A document in the file lacks apiVersion, kind or metadata.name, or is no mapping.",
        "Correct the document that the message numbers; an encrypted one with `sops edit FILE`.",
    ),
    "CiphertextLeft": _stalled(
        "An object holds ciphertext of SOPS where it is not decrypted, so the cluster would get the ciphertext.",
        "Put it into `data` or `stringData` of a Secret as a whole SOPS file, or encrypt the manifest as a whole. If "
        "the ciphertext itself is meant, annotate the object with `jiemi.cr/ciphertext: keep`.",
    ),
    "KindNotForSecrets": _stalled(
        "An encrypted file describes a custom resource, which would hold the decrypted values in clear.",
        "Take the file out of `files` by `exclude`; if the values are meant to be readable there, name the file itself "
        "or list the kind in `encryptedKinds`.",
    ),
    "DuplicateObject": _stalled(
        "Two documents of the Decryptor's files describe the same object (or two files give the same key of a target).",
        "Take one of the two out, or out of `files` by `exclude`.",
    ),
    "NothingToApply": _stalled(
        "The files hold no object, or `files` matches no file.",
        "Correct `files` and `exclude`, or set `allowEmpty: true` if it is meant; nothing is deleted until then.",
    ),
    "ObjectClaimed": _stalled(
        "Another Decryptor has applied the object already.",
        "Let one of the two describe it. To hand it over, take it out of the first one's files (with `prune: false`).",
    ),
    "ObjectProtected": _stalled(
        "The object would give whoever writes to the repository rights or credentials of Miwen's or of the cluster's, "
        "so Miwen does not write it as itself.",
        "Take it out of the repository and apply it by another way, or set `serviceAccountName` to an account that may "
        "write it. Some kinds are opened by the operator: `jiemi miwen --allow-protected`.",
    ),
    "DeployedVersionGone": _stalled(
        "What is deployed of an object can't be read again, so what others changed of it can't be put right.",
        "Commit a version of its file that can be applied, or bring back the commit that the message names.",
    ),
    "DriftConflict": _stalled(
        "Another changes an object back as often as Miwen puts it right, so Miwen leaves it alone: for a minute, then "
        "longer, up to a quarter of an hour.",
        "Let one of the two have the field: take it out of git, or have the field manager that the message names leave "
        "it alone. A new commit, or a change of the spec, is applied at once.",
    ),
    "KindUnknown": _waiting(
        "The cluster serves no such kind.",
        "Install the CustomResourceDefinition, or correct apiVersion and kind.",
    ),
    "NamespaceNotFound": _waiting(
        "The object's namespace does not exist.",
        "Create the namespace.",
    ),
    "ApplyForbidden": _stalled(
        "Miwen has no right to apply the object (RBAC or an admission rule).",
        'Grant it: to Miwen by a ClusterRole labelled `jiemi.cr/aggregate-to-miwen: "true"`, to the Decryptor\'s '
        "ServiceAccount by a RoleBinding.",
    ),
    "ApplyRejected": _stalled(
        "The API server found the object invalid.",
        "Correct the object's fields that the message names.",
    ),
    "FieldImmutable": _stalled(
        "The live object stands in the way: the API server lets nobody change it to what git describes.",
        "Do what the message says: put the old value back, or set `force: true` to have the object deleted and made "
        "again, where the message offers that.",
    ),
    "FieldConflict": _stalled(
        "Another field manager owns the field with another value, and `conflictPolicy` is Refuse.",
        "Take the field out of one of the two, or set `conflictPolicy: TakeOver`.",
    ),
    "AdmissionDenied": _stalled(
        "An admission policy or webhook of the cluster refuses the object.",
        "Ask what the policy that the message names wants, and change the object.",
    ),
    "QuotaExceeded": _waiting(
        "A resource quota of the namespace is used up.",
        "Make room or raise the quota; it is tried again.",
    ),
    "ReadForbidden": _stalled(
        "Miwen (or the Decryptor's ServiceAccount) has no right to read the object.",
        "Grant `get` on the kind that the message names.",
    ),
    "DeleteForbidden": _stalled(
        "Miwen (or the Decryptor's ServiceAccount) has no right to delete the object.",
        "Grant `delete` on the kind that the message names.",
    ),
    "WatchForbidden": _stalled(
        "Miwen may not list and watch a kind that it applies, so drift of it is not seen.",
        "Grant `list` and `watch` on the kind that the message names to Miwen's ServiceAccount.",
    ),
    "EventForbidden": _stalled(
        "Miwen may not create Events.",
        "Grant `create` on events of API group events.k8s.io to Miwen's ServiceAccount (deploy/rbac.yaml does).",
    ),
    "ServiceAccountNotFound": _waiting(
        "The ServiceAccount that `serviceAccountName` (or `--default-service-account`) names does not exist.",
        "Create the ServiceAccount with the rights that it needs, or correct `serviceAccountName`.",
    ),
    "ImpersonationForbidden": _stalled(
        "Miwen may not act as the ServiceAccount that `serviceAccountName` (or `--default-service-account`) names.",
        "Grant `impersonate` on that ServiceAccount to Miwen's ServiceAccount (deploy/impersonation does), or "
        "correct `serviceAccountName`.",
    ),
    "ObjectsNotReady": _waiting(
        "The objects are applied, but not all of them became ready within `timeout`.",
        "Look at the objects that the message names; Ready follows when they do.",
    ),
    "ObjectsFailed": _stalled(
        "An object that was applied says that it failed.",
        "Look at the object that the message names.",
    ),
    "ApplyConflict": _transient(
        "The object was changed by another at the same moment.",
        "Nothing: it is tried again.",
    ),
    "ClusterUnavailable": _transient(
        "The Kubernetes API did not answer, or asked to be spared.",
        "Nothing: it is tried again; look at the API server if it lasts.",
    ),
    "ClusterAccessDenied": _transient(
        "The Kubernetes API does not accept Miwen's own token or certificate (401: it is expired, revoked or of "
        "another cluster), or Miwen can't get one. Until then nothing is read or written, no status, no Event.",
        "Renew Miwen's own credentials: in a Pod the token of its ServiceAccount (delete the Pod), elsewhere the user "
        "of its kubeconfig. It is tried again.",
    ),
    "KubeconfigInvalid": _stalled(
        "Miwen has no way to a cluster: no kubeconfig and no pod's ServiceAccount, or a kubeconfig that can't be used.",
        "Give `--kubeconfig` (and `--context`), or correct the field of the file that the message names.",
    ),
    "ListForbidden": _stalled(
        "Miwen may not list, watch or write the status of Decryptors, or the CRD is not installed.",
        "Apply deploy/ (CRD and RBAC), or give `--namespace` where Miwen's rights end.",
    ),
    "WatchExpired": _transient(
        "The API server no longer has the changes since the last list (410 Gone).",
        "Nothing: Miwen lists again.",
    ),
    # Between the two services
    "KrapaoUnavailable": _waiting(
        "Miwen can't reach Krapao, or the connection ended in the middle of a call.",
        "Look at the StatefulSet `repository`; Miwen connects again by itself.",
    ),
    "KrapaoAccessDenied": _waiting(
        "Krapao gives Miwen no session, because the session secret is missing or is not the one that Krapao has.",
        "Give both the same secret (`--session-secret-file`, `--session-secret`). After a change of the Secret wait "
        "two minutes for Krapao's volume.",
    ),
    "Timeout": _transient(
        "The work was not done within its deadline.",
        "Nothing: it is tried again; look at the host's or Krapao's load if it lasts.",
    ),
    "InternalError": _transient(
        "A fault of Jiemi's own.",
        "Read the service's log at that time, and report it.",
    ),
}
"""Every reason there is. A reason that is not here can't be raised."""
