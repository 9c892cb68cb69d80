"""All rows, and the table of them in docs/hostile-repository.md."""

from __future__ import annotations

from collections.abc import Sequence

from hostile import (
    cases_answers,
    cases_bombs,
    cases_destinations,
    cases_globs,
    cases_hosts,
    cases_joined,
    cases_mac,
    cases_nested,
    cases_plain,
    cases_repositories,
    cases_signatures,
    cases_submodules,
    cases_urls,
)
from hostile.case import Case
from hostile.cases_globs import GlobCase
from hostile.cases_hosts import ChangedCase, EndlessCase
from hostile.cases_repositories import TreeCase
from hostile.cases_signatures import SignedCase
from hostile.cases_submodules import SubmoduleCase
from hostile.cases_urls import UrlCase

AnyCase = Case | TreeCase | GlobCase | SubmoduleCase | EndlessCase | ChangedCase | UrlCase | SignedCase
CHAPTERS: Sequence[tuple[str, Sequence[AnyCase]]] = (
    ("Elsewhere: Vault", cases_destinations.VAULT),
    ("Elsewhere: AWS KMS", cases_destinations.AWS),
    ("Elsewhere: GCP KMS", cases_destinations.GCP),
    ("Elsewhere: Azure Key Vault", cases_destinations.AZURE),
    ("Elsewhere: Huawei Cloud KMS", cases_destinations.HUAWEI),
    ("Identities that are not the Decryptor's", cases_destinations.IDENTITIES),
    ("Many requests", cases_destinations.COUNTS),
    ("Two answers: documents", cases_answers.DOCUMENTS),
    ("Two answers: YAML", cases_answers.YAML),
    ("Two answers: bytes", cases_answers.BYTES),
    ("Two answers: formats", cases_answers.FORMATS),
    ("Two answers: the MAC and what it covers", cases_answers.MAC),
    ("The two kinds of MAC", cases_mac.CASES),
    ("Two answers: the block", cases_answers.BLOCK),
    ("Bombs", cases_bombs.SIZES),
    ("Wrapped data keys that are none", cases_bombs.WRAPPED),
    ("The repository", cases_repositories.CASES),
    ("The repository: globs", cases_globs.CASES),
    ("Submodules, where they are followed", cases_submodules.CASES),
    ("Files that are not encrypted, where they are allowed", cases_plain.CASES),
    ("Values that are files themselves", cases_nested.CASES),
    ("Documents joined by hand", cases_joined.CASES),
    ("Hosts without end", cases_hosts.ENDLESS),
    ("Hosts that were followed and answer otherwise", cases_hosts.CHANGED),
    ("URLs", cases_urls.URLS),
    ("Addresses, over http, https, git and ssh", cases_urls.ADDRESSES),
    ("Detours: redirects, proxies, APIs", cases_urls.DETOURS),
    ("Refs and credentials", cases_urls.REFS),
    ("Signatures of ssh, where commits must be signed", cases_signatures.SSH_CASES),
    ("Signatures of pgp", cases_signatures.PGP_CASES),
    ("Tags, where they must be signed", cases_signatures.TAG_CASES),
    ("The Secret with the public keys", cases_signatures.KEY_CASES),
)


def table() -> str:
    """Every row, in Markdown."""
    lines = ["| what it tries | what it gets |", "| --- | --- |"]
    for chapter, cases in CHAPTERS:
        lines.append(f"| **{chapter}** | |")
        lines += [f"| {_cell(case.tries)} | {_cell(case.outcome)} |" for case in cases]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text[:1].upper() + text[1:].replace("|", "\\|")
