"""What is no death: a Krapao that hangs or is not heard, a Lease that somebody deletes or edits, a drained node.

As in `pods_churn.py`, repositories are committed to meanwhile, and afterwards everything is as git is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from support.metrics_pages import samples
from support.pods.audit import require_the_lease
from support.pods.churn import Churn
from support.pods.cluster import audit_log
from support.pods.demo import until
from support.pods.faults import evict, hanging, unheard
from support.pods.rotation import page

_LEASE = "/apis/coordination.k8s.io/v1/namespaces/jiemi/leases/jiemi-miwen"

_PASSED_OVER_SECONDS = 30.0
"""Silence counts after 15 s at most. The first deadline of a call is a minute."""


def _hanging(_: Churn, pod: Any) -> AbstractContextManager[None]:
    return hanging(pod)


def _unheard(churn: Churn, pod: Any) -> AbstractContextManager[None]:
    return unheard(pod, churn.pods("miwen"))


def _of_each_krapao(churn: Churn, metric: str) -> dict[str, float]:
    """What the active Miwen's metric says of each Krapao, by the name of its Pod."""
    active = churn.active()
    (miwen,) = (pod for pod in churn.pods("miwen") if pod["metadata"]["name"] == active)
    return {labels["krapao"]: value for labels, value in samples(page(miwen), metric)}


async def test_a_krapao_that_hangs_or_is_not_heard_is_passed_over(churn: Churn) -> None:
    for fault in (_hanging, _unheard):
        repositories = _of_each_krapao(churn, "jiemi_krapao_repositories")
        busiest = max(repositories, key=lambda name: repositories[name])
        assert repositories[busiest] > 0
        (pod,) = (each for each in churn.pods("repository") if each["metadata"]["name"] == busiest)
        with fault(churn, pod):
            for name in sorted(churn.clones):
                churn.commit(name)
            took = churn.settle()
            print(f"\n{fault.__name__}: all as git is after {took:.1f} s")
            assert took < _PASSED_OVER_SECONDS
            assert _of_each_krapao(churn, "jiemi_krapao_lost")[busiest] == 1
        churn.until_all_are_ready()
        churn.commit_some()
        churn.settle()


async def test_a_lease_that_somebody_deletes_or_edits_lets_no_two_write_and_nobody_rest(churn: Churn) -> None:
    active = churn.active()
    for _ in range(2):
        churn.commit_some()
        churn.jiemi("delete", "lease", "jiemi-miwen")
        churn.commit_some()
        churn.settle()
    assert churn.active() == active
    stranger = {"holderIdentity": "stranger", "leaseDurationSeconds": 5, "renewTime": "2099-01-01T00:00:00.000000Z"}
    churn.api.call("PATCH", _LEASE, {"spec": stranger}, content_type="application/merge-patch+json").ok()
    churn.commit_some()
    until("a Miwen has it again", lambda: churn.active() != "stranger", seconds=20)
    churn.settle()
    require_the_lease(audit_log(), changed_hands=False)


async def test_nodes_that_are_drained_take_one_of_a_kind_at_a_time(churn: Churn) -> None:
    pairs = [[pod["metadata"]["name"] for pod in churn.pods(kind)[:2]] for kind in ("repository", "miwen")]
    churn.commit_some()
    for first, second in pairs:
        assert evict(churn.api, first) == 201
        assert evict(churn.api, second) == 429
    churn.commit_some()
    churn.settle()
    for _, second in pairs:
        until(f"{second} may go", lambda second=second: evict(churn.api, second) == 201)  # type: ignore[misc]
    churn.commit_some()
    churn.settle()
    churn.until_all_are_ready()
