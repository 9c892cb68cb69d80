"""Mistakes with spec.source.repository.verify: what must be signed, and by whom."""

from __future__ import annotations

from collections.abc import Callable

from mistakes.mistake import Bench, Mistake

_FIELD = "spec.source.repository.verify"
_NAMED = f"Secret {{namespace}}/{{app}}, which {_FIELD}.secretName names,"


def _verify(
    *, provider: str = "ssh", repository: str = "signed", keys: dict[str, str] | None = None, **fields: object
) -> Callable[[Bench], None]:
    """Want signatures. Keys and fields may have words of the stage in braces.

    Args:
        repository: which of the stage's; "" for the one of all.
        keys: the entries of the Secret; None for no Secret.
        fields: of `verify`, and `ref`.
    """

    def make(bench: Bench) -> None:
        if keys is not None:
            values = {name: value.format_map(bench.words) for name, value in keys.items()}
            bench.in_cluster(bench.object(stringData=values))
        wanted = {
            name: [each.format_map(bench.words) for each in value] if isinstance(value, list) else value
            for name, value in fields.items()
        }
        ref = wanted.pop("ref", None)
        url = bench.urls[repository] if repository else bench.repository.url
        bench.repo(url=url, verify={"provider": provider, "secretName": bench.name, **wanted})
        if ref is not None:
            bench.repo(ref=ref)

    return make


_ANN = {"ann.pub": "{ann key}\n"}

SIGNATURES = (
    Mistake(
        "signers-secret-missing",
        "The Secret with the signers' keys is not there.",
        "SecretNotFound",
        f"there is no Secret {{namespace}}/{{app}}, which {_FIELD}.secretName names. Create it in namespace "
        "{namespace} (Secrets of other namespaces are not read), or correct `secretName`.",
        _verify(),
    ),
    Mistake(
        "signers-secret-empty",
        "The Secret with the signers' keys is empty.",
        "VerificationKeysInvalid",
        f"{_NAMED} has no public key. Put the signers' public keys into it (`kubectl create secret generic NAME "
        "--from-file=…`).",
        _verify(keys={"ann.pub": ""}),
    ),
    Mistake(
        "signers-private-key",
        "The private key stands where the public one belongs.",
        "VerificationKeysInvalid",
        f"{_NAMED} has a private key under 'ann'. Remove it there, and treat the key as known to everyone who may read "
        "that Secret. Only public keys are needed (`gpg --export`, NAME.pub).",
        _verify(keys={"ann": "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY-----\n"}),
    ),
    Mistake(
        "signers-of-ssh-for-pgp",
        "`provider: pgp` with keys of ssh.",
        "VerificationKeysInvalid",
        f"{_NAMED} has an ssh key under 'ann.pub', and {_FIELD}.provider is pgp. Set the provider to ssh, or put what "
        "`gpg --export --armor KEY` prints there.",
        _verify(provider="pgp", keys=_ANN),
    ),
    Mistake(
        "signers-of-pgp-for-ssh",
        "`provider: ssh` with keys of pgp.",
        "VerificationKeysInvalid",
        f"{_NAMED} has a pgp key under 'bob.asc', and {_FIELD}.provider is ssh. Set the provider to pgp, or put public "
        "keys of ssh there: NAME.pub, or allowed_signers.",
        _verify(keys={"bob.asc": "{bob key}"}),
    ),
    Mistake(
        "signers-key-half",
        "A signer's public key was copied without its end.",
        "VerificationKeysInvalid",
        f"{_NAMED[:-1]}: line 1 of key 'ann.pub': its public key can't be read. Correct it there: an entry whose name "
        "ends with .pub has public keys as `ssh-keygen` writes them, any other one the lines of an allowed_signers "
        "file.",
        _verify(keys={"ann.pub": "{ann key cut}\n"}),
    ),
    Mistake(
        "signers-without-principals",
        "The .pub file stands in an entry without .pub, which is read as allowed_signers.",
        "VerificationKeysInvalid",
        f"{_NAMED[:-1]}: line 1 of key 'ann': it has a public key alone, and an allowed_signers file has the signer's "
        "name before it. Call the entry NAME.pub, or write the signer's email address before the key.",
        _verify(keys={"ann": "{ann key}\n"}),
    ),
    Mistake(
        "commit-not-signed",
        "The commit is not signed.",
        "SignatureMissing",
        "commit {revision}: it is not signed. Sign it with `git commit -S`, by a key in the Secret.",
        _verify(repository="", keys=_ANN),
    ),
    Mistake(
        "signature-of-the-other-kind",
        "The commit is signed by ssh, and `provider` is pgp.",
        "SignatureInvalid",
        f"commit {{signed}}: its signature is of ssh, and {_FIELD}.provider is pgp. Set the provider to ssh with such "
        "keys in the Secret, or sign with a pgp key.",
        _verify(provider="pgp", keys={"bob.asc": "{bob key}"}),
    ),
    Mistake(
        "signer-not-there",
        "The signer's key is not in the Secret.",
        "SignerUnknown",
        f"commit {{signed}}: it is signed by the ssh key {{ann}}, which is not in the Secret that {_FIELD} names. "
        "Have it signed by a key that is there. Add the key to the Secret only if you trust its owner.",
        _verify(keys={"carl.pub": "{carl key}\n"}),
    ),
    Mistake(
        "signer-expired",
        "`valid-before` of the signer's line has passed.",
        "SignerExpired",
        "commit {signed}: its key is no longer valid by valid-before in line 1 of key 'allowed_signers'. Sign with a "
        "key that is valid, or set valid-before to a later time.",
        _verify(keys={"allowed_signers": 'ann@example.com valid-before="20200101Z" {ann key}\n'}),
    ),
    Mistake(
        "signer-pgp-expired",
        "The signer's pgp key has expired.",
        "SignerExpired",
        "commit {signed long ago}: its pgp key {old} (key 'old.asc' of the Secret) has expired. Sign with a key that "
        "is valid, or put the prolonged public key into the Secret.",
        _verify(provider="pgp", repository="signed long ago", keys={"old.asc": "{old key}"}),
    ),
    Mistake(
        "signer-misspelt",
        "`signers` has a name that no key has.",
        "SignerNotAllowed",
        f"commit {{signed}}: it is signed by ann ({{ann}}), which is not in {_FIELD}.signers; signers has 'anne', and "
        "no key of the Secret is called that. Correct the name: the Secret has ann, {ann}. Or have one of the signers "
        "sign it.",
        _verify(keys=_ANN, signers=["anne"]),
    ),
    Mistake(
        "signer-by-subkey",
        "`signers` has the fingerprint of the subkey that signed.",
        "SignerNotAllowed",
        f"commit {{signed by pgp}}: it is signed by bob.asc ({{bob}}), which is not in {_FIELD}.signers; "
        "{bob subkey} there is the fingerprint of a subkey. Write that of the primary key in its place: {bob}.",
        _verify(provider="pgp", repository="signed by pgp", keys={"bob.asc": "{bob key}"}, signers=["{bob subkey}"]),
    ),
    Mistake(
        "tag-is-lightweight",
        "`mode: Tag`, and the tag is a lightweight one.",
        "TagRequired",
        "tag refs/tags/v1.0: it is a lightweight tag, which can't be signed. Make an annotated one with `git tag -s "
        "v1.0`, and push it.",
        _verify(keys=_ANN, mode="Tag", ref={"tag": "v1.0"}),
    ),
    Mistake(
        "author-of-elsewhere",
        "`authors` has another address than the commit.",
        "SignerNotAllowed",
        f"commit {{signed}}: its author test@jiemi.invalid is not in {_FIELD}.authors. Add the address there, or "
        "commit with another author.",
        _verify(keys=_ANN, authors=["*@example.com"]),
    ),
)
