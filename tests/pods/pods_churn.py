"""Two Miwens and three Krapaos during a churn of commits, each kind killed and ended again and again.

After each fault everything is as git is, and the API server's audit log shows no write of a Miwen that did not have the
Lease. `just test-pods` does it a few times; `just soak-pods [KILLS] [ROTATIONS]` as often as one likes, and prints how
long the takeovers took.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable

from support.pods.audit import read_audit, require_the_lease, tenures
from support.pods.churn import Churn
from support.pods.cluster import audit_log
from support.pods.demo import until
from support.pods.rotation import Rotation, failed_calls, shown_end

KILLS = int(os.environ.get("JIEMI_PODS_KILLS", "3"))
"""How often each kind is killed, and the active Miwen ended."""

ROTATIONS = int(os.environ.get("JIEMI_PODS_ROTATIONS", "1"))
"""How often all certificates are renewed."""

_LIFETIME = datetime.timedelta(minutes=4)
"""Of the certificates that are rotated. Half of it passes until Miwen opens a connection by newer ones."""

_PARTITION_SECONDS = 12.0
"""Longer than a Lease lasts."""

_TAKEOVER_SECONDS = 10.0
_HANDOVER_SECONDS = 2.0


async def test_nothing_is_lost_when_pods_are_killed_and_only_who_has_the_lease_writes(churn: Churn) -> None:
    taken_over: list[float] = []
    deployed: list[float] = []
    for number in range(KILLS):
        churn.commit_some()
        # Both kinds at once, each Krapao in its turn; every fourth time the other Miwen is killed too.
        killed = churn.kill(churn.active())
        churn.kill(f"repository-{number % 3}")
        if number % 4 == 3:
            churn.kill(churn.pods("miwen")[0]["metadata"]["name"])
        churn.commit_some()
        deployed.append(churn.settle())
        if number % 4 != 3:
            taken_over.append(_taken_over(killed))
        churn.until_all_are_ready()
    _show("taken over after a kill", taken_over)
    _show("all as git is after a kill of both", deployed)
    assert _percentile(taken_over, 99) < _TAKEOVER_SECONDS
    require_the_lease(audit_log())


async def test_a_krapao_that_is_lost_is_replaced_by_the_next_at_once(churn: Churn) -> None:
    followed: list[float] = []
    for number in range(KILLS):
        churn.kill(f"repository-{number % 3}")
        began = time.monotonic()
        for name in sorted(churn.clones):
            churn.commit(name)
        churn.settle()
        followed.append(time.monotonic() - began)
        churn.until_all_are_ready()
    _show("six repositories committed to and deployed, though a Krapao was killed", followed)


async def test_a_miwen_that_ends_hands_over_at_once(churn: Churn) -> None:
    handed_over: list[float] = []
    for _ in range(KILLS):
        churn.commit_some()
        ended = churn.end(churn.active())
        churn.commit_some()
        churn.settle()
        handed_over.append(_taken_over(ended))
        churn.until_all_are_ready()
    _show("taken over after SIGTERM", handed_over)
    assert _percentile(handed_over, 99) < _HANDOVER_SECONDS
    require_the_lease(audit_log())


async def test_a_leader_that_the_api_server_does_not_hear_writes_nothing_and_the_other_goes_on(churn: Churn) -> None:
    for _ in range(max(1, KILLS // 10)):
        active = churn.active()
        with churn.partition(active):
            began = time.monotonic()
            churn.commit_some()
            until("another Miwen has the Lease", lambda active=active: churn.active() not in ("", active))  # type: ignore[misc]
            churn.settle()
            while time.monotonic() - began < _PARTITION_SECONDS:
                churn.commit_some()
                churn.settle()
        churn.commit_some()
        churn.settle()
        churn.until_all_are_ready()
    require_the_lease(audit_log())


async def test_certificates_are_rotated_and_no_call_fails(churn: Churn) -> None:
    rotation = Rotation(churn.api)
    churn.until_all_are_ready()
    active = churn.active()

    def miwen() -> object:
        (found,) = (pod for pod in churn.pods("miwen") if pod["metadata"]["name"] == active)
        return found

    def all_show(end: float) -> Callable[[], bool]:
        def holds() -> bool:
            churn.commit_some()
            churn.settle()
            return shown_end(miwen()) >= end and all(shown_end(pod) >= end for pod in churn.pods("repository"))

        return holds

    # The first ones bring Miwen from the long-lived connections of before to those that are due within minutes: each
    # Krapao is ended once, which is no part of what is counted.
    rotation.renew(_LIFETIME)
    for number in range(3):
        churn.end(f"repository-{number}")
        churn.settle()
        churn.until_all_are_ready()
    began = failed_calls(miwen())
    for number in range(ROTATIONS):
        end = rotation.renew(_LIFETIME + datetime.timedelta(seconds=number))
        until("all show the new certificates", all_show(end), seconds=400)
    assert churn.active() == active
    assert failed_calls(miwen()) == began, _said_of_certificates(churn, active)
    rotation.renew(datetime.timedelta(days=30))
    require_the_lease(audit_log(), changed_hands=False)


async def test_scaling_from_three_to_four_moves_repositories_to_the_fourth_only(churn: Churn) -> None:
    churn.jiemi("scale", "statefulset", "repository", "--replicas=4")
    until(
        "the fourth Krapao is ready", lambda: churn.jiemi("get", "pod", "repository-3").count("1/1") == 1, seconds=120
    )
    churn.commit_some()
    churn.settle()
    churn.jiemi("scale", "statefulset", "repository", "--replicas=3")
    churn.commit_some()
    churn.settle()


def _said_of_certificates(churn: Churn, *pods: str) -> str:
    """What these and the Krapaos logged of certificates and lost connections, the newest last."""
    wanted = ("certificate", "krapao_lost", "krapao_is_back", "NotTrusted", "tls")
    lines = [
        f"{pod} {line}"
        for pod in (*pods, *(each["metadata"]["name"] for each in churn.pods("repository")))
        for line in churn.jiemi("logs", pod, "--tail=-1").splitlines()
        if any(word in line for word in wanted)
    ]
    return "\n".join(lines[-300:])


def _taken_over(since: float) -> float:
    """How many seconds after a moment another process took the Lease; waits until one does."""

    def began() -> list[float]:
        return [tenure.began for tenure in tenures(read_audit(audit_log())) if tenure.began > since]

    until("another process has the Lease", lambda: bool(began()), seconds=60)
    return min(began()) - since


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _show(what: str, seconds: list[float]) -> None:
    median, most = _percentile(seconds, 50), _percentile(seconds, 99)
    print(f"\n{what}, {len(seconds)} times: median {median:.1f} s, p99 {most:.1f} s, longest {max(seconds):.1f} s")
