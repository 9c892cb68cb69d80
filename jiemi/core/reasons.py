"""The table of reasons: everything that can go wrong and that a user can meet.

A *reason* is a stable CamelCase name. Its row says what happens next (its `Kind`), what it means, and what to do about
it. The status, Events, the log and the command line take their texts from this table, and the table of
docs/troubleshooting.md is generated from it; a test compares the two.

`jiemi.core.errors` has the failures that carry a reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from jiemi.core.reason_kinds import Kind, ReasonInfo
from jiemi.core.reason_kinds import stalled as _stalled
from jiemi.core.reason_kinds import transient as _transient
from jiemi.core.reason_kinds import waiting as _waiting
from jiemi.core.signature_reasons import SIGNATURE_REASONS, UNVERIFIED

__all__ = ["NO_ANSWER", "REASONS", "UNVERIFIED", "Kind", "ReasonInfo"]

NO_ANSWER = frozenset({"ClusterUnavailable", "ClusterAccessDenied"})
"""Reasons after which nothing is known about any object, because the API server does not answer."""

REASONS: Mapping[str, ReasonInfo] = {
    # The Decryptor itself
    "InvalidSpec": _stalled(
        "A field of the Decryptor is missing, malformed or contradicts another field.",
        "Correct the field that the message names.",
    ),
    "ProviderNotSupportedYet": _stalled(
        "Krapao is an older release than Miwen and does not support the provider or another field of the spec.",
        "Upgrade Krapao to the release of Miwen.",
    ),
    "DependencyNotReady": _waiting(
        "A Decryptor that `dependsOn` names is not ready, or does not exist.",
        "Wait if that Decryptor is about to become ready: this one continues then. Otherwise look at its status.",
    ),
    "DependencyCycle": _stalled(
        "Decryptors depend on one another in a cycle, so none of them can be deployed first.",
        "Remove one of the names from `dependsOn`. The message shows the cycle.",
    ),
    "CrossNamespaceDenied": _stalled(
        "The Decryptor refers to another namespace, and Miwen runs with `--no-cross-namespace`.",
        "Use the Decryptor's own namespace, or ask the operator.",
    ),
    "NamespaceProtected": _stalled(
        "The Decryptor is in the namespace that Jiemi runs in, and could name Jiemi's own Secrets and accounts.",
        "Move the Decryptor to another namespace. Nothing that it applied is deleted until then.",
    ),
    "NamespaceLimitExceeded": _stalled(
        "The Decryptors of the namespace, with their statuses and credentials, need more memory than Miwen grants one "
        "namespace. The message says how much. Objects that the Decryptor deployed stay.",
        "Use fewer Decryptors in the namespace (one may follow many files) or smaller credentials, or give Miwen more "
        "memory and a larger `--decryptor-memory`. The Decryptor resumes by itself once there is room.",
    ),
    # Credentials
    "SecretNotFound": _waiting(
        "A Secret that the spec names does not exist in the Decryptor's namespace.",
        "Create the Secret, or correct `secretName`.",
    ),
    "SecretKeyNotFound": _waiting(
        "The Secret exists but does not have the key.", "Add the key to the Secret, or correct `key`."
    ),
    "SecretValueEmpty": _waiting(
        "The Secret has the key, but its value is empty or is not text.", "Store the credential in the Secret."
    ),
    "CredentialTooLarge": _stalled(
        "A credential is too large, or those of one provider or repository are too large together.",
        "Store only the credential under the Secret's key. The message names the field, its size and the limit.",
    ),
    "SecretForbidden": _stalled(
        "Miwen may not read Secrets in this namespace.",
        "Grant `get` on Secrets there to Miwen's ServiceAccount (deploy/rbac.yaml does).",
    ),
    "LeaseForbidden": _transient(
        "Miwen may not read or write the Lease by which one of several Miwens is the active one.",
        "Grant `get` and `update` on that Lease, and `create` on leases, to Miwen's ServiceAccount (deploy/rbac.yaml "
        "does).",
    ),
    # The repository
    "InvalidUrl": _stalled(
        "The repository's URL can't be used: it has no host, an unknown scheme, or contains a credential.",
        "Use https://, http://, ssh://, git:// or user@host:path, and give credentials in `credentials`.",
    ),
    "SchemeNotAllowed": _stalled(
        "Krapao does not allow URLs with this scheme.",
        "Use another scheme. `file://` needs `jiemi krapao --allow-file-urls`.",
    ),
    "AddressNotAllowed": _stalled(
        "The host has an address that Krapao does not connect to: a loopback or link-local address, that of a metadata "
        "service, or one that the operator denies.",
        "Use another host, or ask the operator to allow the address (`jiemi krapao --allow-address`).",
    ),
    "HostUnreachable": _transient(
        "No git server answered at the repository's host: the name does not resolve, the host is down, the port is "
        "closed or filtered, or the server there does not speak git. Krapao's log says which.",
        "Check the URL, DNS and network policies. Jiemi tries again.",
    ),
    "RepositoryNotFound": _stalled(
        "The host answers, but does not have the repository. Many hosts also answer so if credentials are missing.",
        "Check the URL and, for a private repository, the credentials.",
    ),
    "RepositoryAccessDenied": _stalled(
        "The host refused the repository's credentials, or requires credentials.",
        "Correct the field of `credentials` that the message names.",
    ),
    "HostKeyUnknown": _stalled(
        "The ssh host's key is unknown, or differs from the known one.",
        "Add the host's line to `credentials.knownHosts` or to Krapao's `--ssh-known-hosts` file.",
    ),
    "TlsVerificationFailed": _stalled(
        "The host's TLS certificate could not be verified.",
        "Put the certificate of the authority that signed the host's certificate into `credentials.caBundle`, or ask "
        "the operator to give it to Krapao (`jiemi krapao --ca-bundle`).",
    ),
    "ProxyRefused": _stalled(
        "The proxy on the way to the repository's host wants a login, or refuses the one that it gets.",
        "Correct the login of the proxy that the message names.",
    ),
    "RefNotFound": _stalled(
        "The repository does not have the branch, tag or commit, is empty, or its host does not serve that commit.",
        "Correct `repository.ref`, or push the branch again.",
    ),
    "RevisionNotFound": _transient(
        "The requested revision is no longer in the repository.",
        "Nothing to do: Miwen asks for the newest revision at the next tick.",
    ),
    "GitProtocolError": _transient(
        "The git server refused temporarily, closed the connection, or violated git's protocol.",
        "Wait: Jiemi tries again. If it persists, look at the git server and at proxies between it and Krapao.",
    ),
    "StorageFailed": _transient(
        "Krapao could not write its clone, because its volume is full of clones in use, is read-only or is damaged.",
        "Check Krapao's volume. Krapao fetches a damaged clone again by itself.",
    ),
    # Signatures
    **SIGNATURE_REASONS,
    # The file
    "FileNotFound": _stalled(
        "The revision has no file at `fileToDecrypt`, at a path in `files`, or at `sopsPath`. The message says which.",
        "Correct the path, or commit the file.",
    ),
    "NotAFile": _stalled(
        "The path is a directory, a submodule, or a symbolic link that leads out of the repository.",
        "Name a regular file.",
    ),
    "SubmoduleNotAllowed": _stalled(
        "A file in a submodule is wanted, and the submodule is on a host that `submodules.hosts` does not name.",
        "Add the host to spec.source.repository.submodules.hosts.",
    ),
    "SubmoduleInvalid": _stalled(
        "The repository's .gitmodules has no URL for a submodule, or one that can't be used.",
        "Correct .gitmodules and commit it.",
    ),
    "LimitExceeded": _stalled(
        "The file, its decrypted content, the time to decrypt it, or the space that a namespace's clones use on "
        "Krapao's volume exceeds the limit that the message names.",
        "Make the file smaller, follow fewer repositories, or raise Krapao's limit.",
    ),
    "NotEncrypted": _stalled(
        "The file has no SOPS metadata, so it is not encrypted with SOPS.",
        "Encrypt it with `sops encrypt --in-place FILE`, or correct the path.",
    ),
    "UnknownFormat": _stalled(
        "The file's name or content is not in a supported format.",
        "Correct the file where the message says. Edit an encrypted file with `sops edit FILE`.",
    ),
    # The key
    "KeyMissing": _stalled(
        "None of the given keys can decrypt the file's data key.",
        "Give a key for one of the file's recipients, or add your recipient with `sops updatekeys`.",
    ),
    "KeyServiceDenied": _stalled(
        "A key service (AWS KMS, GCP KMS, Azure Key Vault, Vault, Huawei Cloud KMS) refused the credentials, or does "
        "not let them use this key.",
        "Correct the provider's credentials, or grant them the right to decrypt with the key in its policy.",
    ),
    "KeyServiceUnreachable": _transient(
        "A key service could not be reached, timed out or was rate-limiting.",
        "Check network policies, proxies and the service's address. Jiemi tries again.",
    ),
    "KeyHolderFailed": _transient(
        "The process that holds the Decryptor's credentials exited or stopped responding.",
        "Wait: Krapao starts it again. If it persists, look at Krapao's log and memory limit.",
    ),
    "DestinationNotAllowed": _stalled(
        "The file names a server, role or key that neither the Decryptor nor Krapao's operator allows.",
        "If this is intended, add what the message names to the spec. Otherwise find out who changed the file.",
    ),
    "PolicyDenied": _stalled(
        "The operator's policy does not allow this repository, file, recipient or namespace.",
        "Ask the operator for a rule that allows it (Miwen's `--policy` file).",
    ),
    "AmbientIdentityNotAllowed": _stalled(
        "The provider names no credential, and Krapao does not lend the identity of its own Pod to this provider, key "
        "or repository.",
        "Give credentials in the provider, or ask the operator for `--allow-ambient-identity`, `--ambient-key` and "
        "`--ambient-repository`.",
    ),
    "KeyInvalid": _stalled(
        "A given key is not a valid key of its type.",
        "Correct the value in the literal or Secret that the message names.",
    ),
    "MacMismatch": _stalled(
        "The file was changed after it was encrypted: its checksum (SOPS MAC) or a value can't be verified.",
        "Edit the file with `sops edit FILE` only. Restore the last good commit if nobody on your team made this "
        "change.",
    ),
    "MacOnlyEncrypted": _stalled(
        "The file's MAC covers only its encrypted values (`mac_only_encrypted`), and the operator refuses such files.",
        "Remove `mac_only_encrypted` from the .sops.yaml, decrypt the file and encrypt it again.",
    ),
    "DecryptionFailed": _stalled(
        "sops could not decrypt the file for another reason. The message says as much of it as is safe to show.",
        "Try `sops decrypt FILE` with the same key.",
    ),
    "SopsMissing": _waiting(
        "Krapao does not find the `sops` program.",
        "Install it on Krapao's PATH (the image has it) or give `--sops PATH`. `jiemi tools sops` installs it and "
        "prints where.",
    ),
    "GpgMissing": _waiting(
        "A pgp key needs the `gpg` program, and Krapao does not find it.",
        "Install GnuPG beside Krapao (the image has it) or give `--gpg PATH`.",
    ),
    # The objects
    "NotAKubernetesObject": _stalled(
        "A document in the file has no apiVersion, kind or metadata.name, or is not a mapping.",
        "Correct the document whose number the message gives. Edit an encrypted file with `sops edit FILE`.",
    ),
    "CiphertextLeft": _stalled(
        "An object contains SOPS ciphertext in a place that is not decrypted, so the cluster would get the ciphertext.",
        "Store it in `data` or `stringData` of a Secret as a whole SOPS file, or encrypt the whole manifest. If "
        "the ciphertext itself is intended, annotate the object with `jiemi.cr/ciphertext: keep`.",
    ),
    "KindNotForSecrets": _stalled(
        "An encrypted file describes a custom resource, which would store the decrypted values in clear text.",
        "Exclude the file with `exclude`. If the values may be readable there, name the file itself in `files`, or "
        "list the kind in `encryptedKinds`.",
    ),
    "DuplicateObject": _stalled(
        "Two documents of the Decryptor's files describe the same object (or two files give the same key of a target).",
        "Remove one of the two, or exclude its file with `exclude`.",
    ),
    "NothingToApply": _stalled(
        "The files contain no object, or `files` matches no file.",
        "Correct `files` and `exclude`, or set `allowEmpty: true` if this is intended. Nothing is deleted until then.",
    ),
    "ObjectClaimed": _stalled(
        "Another Decryptor has already applied the object.",
        "Let only one of the two describe it. To hand it over, remove it from the first one's files (with `prune: "
        "false`).",
    ),
    "ObjectProtected": _stalled(
        "The object would give writers of the repository rights or credentials of Miwen or of the cluster, so Miwen "
        "does not write it with its own rights.",
        "Remove it from the repository and apply it in another way, or set `serviceAccountName` to an account that may "
        "write it. The operator can allow some kinds: `jiemi miwen --allow-protected`.",
    ),
    "DeployedVersionGone": _stalled(
        "The deployed version of an object can't be read again, so changes that others made can't be corrected.",
        "Commit a version of its file that can be applied, or restore the commit that the message names.",
    ),
    "DriftConflict": _stalled(
        "Somebody else changes an object back each time Miwen corrects it, so Miwen leaves it alone: for a minute at "
        "first, then for longer, up to a quarter of an hour.",
        "Let only one of the two set the field: remove it from git, or stop the field manager that the message names "
        "from setting it. A new commit or a change of the spec is applied at once.",
    ),
    "KindUnknown": _waiting(
        "The cluster does not serve this kind.", "Install the CustomResourceDefinition, or correct apiVersion and kind."
    ),
    "NamespaceNotFound": _waiting("The object's namespace does not exist.", "Create the namespace."),
    "ApplyForbidden": _stalled(
        "Miwen is not allowed to apply the object (by RBAC or an admission rule).",
        'Grant the right: to Miwen with a ClusterRole labelled `jiemi.cr/aggregate-to-miwen: "true"`, to the '
        "Decryptor's ServiceAccount with a RoleBinding.",
    ),
    "ApplyRejected": _stalled(
        "The API server rejected the object as invalid.", "Correct the fields that the message names."
    ),
    "FieldImmutable": _stalled(
        "The API server does not allow the live object to be changed to what git describes.",
        "Restore the old value or, if the message offers it, set `force: true` to have the object deleted and "
        "recreated.",
    ),
    "FieldConflict": _stalled(
        "Another field manager owns the field with a different value, and `conflictPolicy` is Refuse.",
        "Stop one of the two from setting the field, or set `conflictPolicy: TakeOver`.",
    ),
    "AdmissionDenied": _stalled(
        "An admission policy or webhook of the cluster refused the object.",
        "Change the object so that it satisfies the policy that the message names.",
    ),
    "QuotaExceeded": _waiting(
        "A resource quota of the namespace is used up.", "Free some of the quota or raise it. Miwen tries again."
    ),
    "ReadForbidden": _stalled(
        "Miwen (or the Decryptor's ServiceAccount) is not allowed to read the object.",
        "Grant `get` on the kind that the message names.",
    ),
    "DeleteForbidden": _stalled(
        "Miwen (or the Decryptor's ServiceAccount) is not allowed to delete the object.",
        "Grant `delete` on the kind that the message names.",
    ),
    "WatchForbidden": _stalled(
        "Miwen may not list and watch a kind that it applies, so it does not detect drift of these objects.",
        "Grant `list` and `watch` on the kind that the message names to Miwen's ServiceAccount.",
    ),
    "EventForbidden": _stalled(
        "Miwen may not create Events.",
        "Grant `create` on events of API group events.k8s.io to Miwen's ServiceAccount (deploy/rbac.yaml does).",
    ),
    "ServiceAccountNotFound": _waiting(
        "The ServiceAccount that `serviceAccountName` (or `--default-service-account`) names does not exist.",
        "Create the ServiceAccount and grant it the rights that it needs, or correct `serviceAccountName`.",
    ),
    "ImpersonationForbidden": _stalled(
        "Miwen may not act as the ServiceAccount that `serviceAccountName` (or `--default-service-account`) names.",
        "Grant `impersonate` on that ServiceAccount to Miwen's ServiceAccount (deploy/impersonation does), or "
        "correct `serviceAccountName`.",
    ),
    "ObjectsNotReady": _waiting(
        "The objects are applied, but not all of them became ready within `timeout`.",
        "Look at the objects that the message names. The Decryptor becomes ready when they do.",
    ),
    "ObjectsFailed": _stalled(
        "An applied object reports that it failed.", "Look at the object that the message names."
    ),
    "ApplyConflict": _transient(
        "Somebody else changed the object at the same time.", "Nothing to do: Miwen tries again."
    ),
    "ClusterUnavailable": _transient(
        "The Kubernetes API could not be reached, timed out or was rate-limiting.",
        "Wait: Miwen tries again. If it persists, look at the API server.",
    ),
    "ClusterAccessDenied": _transient(
        "The Kubernetes API does not accept Miwen's own token or certificate (401: it is expired, revoked or of "
        "another cluster), or Miwen can't get one. Until it does, Miwen reads and writes nothing, not even a status.",
        "Renew Miwen's own credentials: in a Pod, the token of its ServiceAccount (delete the Pod); elsewhere, the "
        "user of its kubeconfig. Miwen tries again.",
    ),
    "KubeconfigInvalid": _stalled(
        "Miwen can't connect to a cluster: it has neither a kubeconfig nor a Pod's ServiceAccount, or its kubeconfig "
        "can't be used.",
        "Give `--kubeconfig` (and `--context`), or correct the field of the file that the message names.",
    ),
    "ListForbidden": _stalled(
        "Miwen may not list, watch or write the status of Decryptors, or the CRD is not installed.",
        "Apply deploy/ (CRD and RBAC), or give `--namespace` for each namespace that Miwen has rights in.",
    ),
    "WatchExpired": _transient(
        "The API server no longer keeps the changes since the last list (410 Gone).",
        "Nothing to do: Miwen lists again.",
    ),
    # Between the two services
    "KrapaoUnavailable": _waiting(
        "Miwen can't reach Krapao, or the connection was lost during a call.",
        "Look at the StatefulSet `repository`. Miwen reconnects by itself.",
    ),
    "KrapaoAccessDenied": _waiting(
        "Krapao refused Miwen, because its certificate or session secret is missing or is not what Krapao accepts.",
        "Give both the same secret (`--session-secret-file`, `--session-secret`). After a change of the Secret, wait "
        "two minutes until the change reaches Krapao's volume.",
    ),
    "KrapaoNotTrusted": _waiting(
        "What answers at Krapao's address can't prove that it is Krapao, so Miwen sends it nothing.",
        "Give both certificates of the same authority, Krapao one with the DNS name `krapao` and the usage `server "
        "auth`. As installed they are in the Secrets `krapao-tls` and `miwen-tls` (else `--tls-dir`, `--tls-secret`). "
        "If nobody changed them, something else answers at that address.",
    ),
    "Timeout": _transient(
        "The work did not finish before its deadline.",
        "Wait: Jiemi tries again. If it persists, look at the load of the host and of Krapao.",
    ),
    "InternalError": _transient("Jiemi has a bug.", "Look in the service's log for that time, and report it."),
}
"""All reasons. A reason that is not here can't be raised."""
