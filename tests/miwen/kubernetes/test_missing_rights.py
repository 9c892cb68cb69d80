"""A missing right is named with what to grant, and to whom."""

from __future__ import annotations

import pytest

from jiemi.miwen.kubernetes.missing_rights import Right, RightMissing
from jiemi.miwen.kubernetes.port import Account

TEAM = Account("team", "app")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RightMissing("ReadForbidden", "reading Secret team/app", Right(("get",), "secrets", "", "team"), TEAM),
            (
                "reading Secret team/app: not allowed to ServiceAccount team/app. "
                "Grant `get` on secrets of the core API group to ServiceAccount team/app in namespace team."
            ),
        ),
        (
            RightMissing("WatchForbidden", "listing jobs", Right(("list", "watch"), "jobs", "batch", None)),
            (
                "listing jobs: not allowed to Miwen's ServiceAccount. Grant `list` and `watch` on jobs of API group "
                "batch to Miwen's ServiceAccount in all namespaces (a ClusterRoleBinding), for example by a "
                'ClusterRole labelled jiemi.cr/aggregate-to-miwen: "true".'
            ),
        ),
        (
            RightMissing(
                "ApplyForbidden",
                "applying Job other/x",
                Right(("create", "patch"), "jobs", "batch", "other", by_label=False),
            ),
            (
                "applying Job other/x: not allowed to Miwen's ServiceAccount. Grant `create` and `patch` on jobs of "
                "API group batch to Miwen's ServiceAccount in namespace other."
            ),
        ),
        (
            RightMissing("SecretForbidden", "reading Secret team/app", Right(("get",), "secrets", "", "team")),
            (
                "reading Secret team/app: not allowed to Miwen's ServiceAccount. "
                "Grant `get` on secrets of the core API group to Miwen's ServiceAccount in namespace team."
            ),
        ),
    ],
)
def test_a_missing_right_says_what_to_grant_to_whom_and_where(error: RightMissing, text: str) -> None:
    assert error.failure.text == text


def test_what_comes_next_can_be_granted_at_once() -> None:
    read = RightMissing("ReadForbidden", "reading Secret team/app", Right(("get",), "secrets", "", "team"), TEAM)
    failure = read.with_verbs("create", "patch").failure
    assert failure.reason == "ReadForbidden"
    assert failure.text == (
        "reading Secret team/app: not allowed to ServiceAccount team/app. Grant `get`, `create` and `patch` on secrets "
        "of the core API group to ServiceAccount team/app in namespace team."
    )
