"""What `jiemi status` prints of a Decryptor beside its row."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from support.miwen.stored_statuses import condition, record

from jiemi.cli.status import print_decryptors
from jiemi.core.api.decryptor import read_decryptor


def printed(*conditions: dict[str, Any], name: str = "app", width: int = 300, **status: Any) -> str:
    metadata = {"name": name, "namespace": "team", "uid": "u", "generation": 1, "resourceVersion": "1"}
    obj = {"metadata": metadata, "spec": {}, "status": {"current": record(1), "conditions": list(conditions), **status}}
    output = io.StringIO()
    print_decryptors([read_decryptor(obj)], Console(file=output, width=width))
    return output.getvalue()


READY = condition("Ready")


def test_one_that_is_well_has_its_row_only() -> None:
    assert len(printed(READY, condition("Reconciling", message="under way")).splitlines()) == 2


def test_warnings_and_drift_of_one_that_is_ready_are_shown() -> None:
    drifted = condition("Drifted", reason="Reported", message="Secret team/a differs")
    text = printed(READY, drifted, condition("MacOnlyEncrypted", message="b.yaml"))
    assert "team/app: Drifted: Secret team/a differs" in text
    assert "team/app: MacOnlyEncrypted: b.yaml" in text


def test_what_is_wrong_and_what_to_do_is_shown_once_as_it_stands_in_the_status() -> None:
    reason_text = "a.yaml: no key. Give one."
    failed = [
        {"kind": "Secret", "name": n, "reason": "ObjectProtected", "message": f"{n}. Move it."} for n in ("a", "b")
    ]
    failed.append({"kind": "Secret", "name": "c", "reason": "KeyMissing", "message": reason_text})
    not_ready = condition("Ready", status="False", reason="KeyMissing", message=f"3 of 3, the first: {reason_text}")
    text = printed(not_ready, condition("Stalled", reason="KeyMissing", message=reason_text), failedObjects=failed)
    assert text.count(reason_text) == 1
    assert "Secret a: ObjectProtected: a. Move it." in text
    assert "Secret b: ObjectProtected: b. Move it." in text


def signed(revision: str = "1".zfill(40), **more: str) -> dict[str, str]:
    return {"revision": revision, "mode": "Commit", **more}


SIGNED_BY_TWO = (
    "team/app: the deployed commit 000000000000 is signed by ann (K), and its tag refs/tags/v1 by bob (B), valid until "
    "2027-01-01T00:00:00Z"
)


@pytest.mark.parametrize(
    ("verification", "verdict", "line"),
    [
        (
            signed(signer="ann", key="SHA256:k"),
            "True",
            "team/app: the deployed commit 000000000000 is signed by ann (SHA256:k)",
        ),
        (
            signed(
                signer="ann", key="K", tag="refs/tags/v1", tagSigner="bob", tagKey="B", expiresAt="2027-01-01T00:00:00Z"
            ),
            "True",
            SIGNED_BY_TWO,
        ),
        (
            signed(tag="refs/tags/v1", tagSigner="bob", tagKey="B"),
            "True",
            "team/app: the tag refs/tags/v1 of the deployed commit 000000000000 is signed by bob (B)",
        ),
        (signed(signer="ann", key="K"), "False", "team/app: the deployed commit 000000000000 was signed by ann (K)"),
        (
            signed("abcdef0123456789", signer="ann", key="K"),
            "True",
            "team/app: commit abcdef012345, which is not deployed, is signed by ann (K)",
        ),
    ],
)
def test_who_signed_the_deployed_revision_is_shown_once(verification: dict[str, str], verdict: str, line: str) -> None:
    verified = condition("SourceVerified", status=verdict, message="commit 000000000000 is signed by ann (SHA256:k)")
    lines = printed(READY, verified, verification=verification).splitlines()
    assert [each for each in lines if "signed by" in each] == [line]


def test_a_narrow_terminal_has_fewer_columns_and_whole_names() -> None:
    not_ready = condition("Ready", status="False", reason="RepositoryAccessDenied", message="m")
    head, row = printed(not_ready, name="payments-database", width=80).splitlines()[:2]
    assert head.split() == ["NAMESPACE", "NAME", "STATUS", "ID", "REVISION", "REASON"]
    assert row.split()[1] == "payments-database"
    assert row.split()[-1] == "RepositoryAccessDenied"
    long = "a" * 90
    head, row = printed(not_ready, name=long, width=80).splitlines()[:2]
    assert head.split() == ["NAMESPACE", "NAME", "STATUS", "REASON"]
    assert row.split() == ["team", long, "Sync", "RepositoryAccessDenied"]


def test_each_file_and_object_that_failed_is_shown_and_how_many_more_there_are() -> None:
    not_ready = condition("Ready", status="False", reason="KeyMissing", message="a.yaml: no key. Give one.")
    files = [{"path": f"{n}.yaml", "reason": "KeyMissing", "message": f"{n}.yaml: no key. Give one."} for n in "ab"]
    files.append({"path": "c.yaml", "reason": "LimitExceeded", "message": "the documents are too large. Split them."})
    files.append(
        {"path": "d.yaml", "reason": "NotAKubernetesObject", "message": "document 1 of d.yaml has no kind. Add it."}
    )
    objects = [
        {"kind": "Secret", "name": "x", "namespace": "team", "reason": "ObjectClaimed", "message": "it is another's"}
    ]
    more: dict[str, Any] = {
        "failedFiles": files,
        "moreFailedFiles": 7,
        "failedObjects": objects,
        "moreFailedObjects": 2,
    }
    lines = printed(not_ready, **more).splitlines()
    assert lines[-6:] == [
        "  KeyMissing: b.yaml: no key. Give one.",
        "  c.yaml: LimitExceeded: the documents are too large. Split them.",
        "  NotAKubernetesObject: document 1 of d.yaml has no kind. Add it.",
        "  and 7 more files",
        "  Secret team/x: ObjectClaimed: it is another's",
        "  and 2 more objects",
    ]
    assert sum("a.yaml" in line for line in lines) == 1


def test_nothing_that_others_choose_is_obeyed_by_the_terminal() -> None:
    escape = "\x1b]0;x\x07\x1b[2J\n"
    not_ready = condition("Ready", status="False", reason="KeyMissing", message=f"a{escape}")
    files = [{"path": f"b{escape}.yaml", "reason": "KeyMissing", "message": f"c{escape}"}]
    drifted = condition("Drifted", reason="Reported", message=f"d{escape}")
    text = printed(not_ready, drifted, failedFiles=files)
    assert all(each.isprintable() or each == "\n" for each in text)
    assert [f"{name}\\x1b]0;x" in text for name in "abcd"] == [True] * 4
