"""Files of other tools that stand where a manifest or a file of sops belongs, known by how they begin."""

from __future__ import annotations

_ENCRYPT = "Encrypt what is in it with `sops encrypt`, and commit that."
_BEGINNINGS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS",
        "Take the file out of LFS (`git lfs untrack`) and commit it again: Jiemi reads what is in git alone.",
    ),
    (b"\0GITCRYPT\0", "a file that git-crypt has encrypted", _ENCRYPT),
    (b"$ANSIBLE_VAULT;", "a file that Ansible Vault has encrypted", _ENCRYPT),
    (b"age-encryption.org/v1", "a file that age has encrypted by itself", _ENCRYPT),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "a file that age has encrypted by itself", _ENCRYPT),
    (b"-----BEGIN PGP MESSAGE-----", "a file that gpg has encrypted by itself", _ENCRYPT),
)


def foreign_file(data: bytes, *, whole: bool = False) -> tuple[str, str] | None:
    """What a file of another tool is, and what to do about it; None for any other file.

    Args:
        data: the file, or its beginning.
        whole: whether the file itself is wanted. Then what another tool has encrypted may be meant; a pointer is not.
    """
    known = _BEGINNINGS[:1] if whole else _BEGINNINGS
    return next(((what, remedy) for begin, what, remedy in known if data.startswith(begin)), None)
