"""Miwen, whole: follow the Decryptors, run their loops, show that it lives.

follow (list, watch) -> Decryptors (a task each) -> DecryptorLoop (ticks) -> Reconciler -> Krapao, Kubernetes
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import attrs
import structlog
import trio

from jiemi.blocking.places import Places
from jiemi.core.policy import Policy
from jiemi.core.schedule import DEFAULT_INTERVAL_SECONDS
from jiemi.miwen.decryptor_loop import DecryptorLoop
from jiemi.miwen.decryptors import Decryptors
from jiemi.miwen.follow import follow
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile import Reconciler
from jiemi.rpc.contract import Krapao

_log = structlog.get_logger("jiemi.miwen")

ALIVE_INTERVAL_SECONDS = 10.0
"""How often the alive file is touched; `jiemi probe miwen` calls it dead after several of these."""


@attrs.frozen
class MiwenSettings:
    """How Miwen works.

    Attributes:
        interval_seconds: how often each Decryptor asks for the newest revision.
        max_concurrent_deployments: how many Decryptors are decrypted and applied at once. Each holds its decrypted
            documents in memory meanwhile (8 MiB at most). One namespace gets at most half of the places.
        deploy_timeout_seconds: the longest that one of them may take.
        alive_file: touched every `ALIVE_INTERVAL_SECONDS` while the event loop runs, or None.
        policy: the operator's, or None where everything is allowed.
    """

    interval_seconds: float = DEFAULT_INTERVAL_SECONDS
    max_concurrent_deployments: int = 8
    deploy_timeout_seconds: float = 300.0
    alive_file: Path | None = None
    policy: Policy | None = None


async def run_miwen(
    kubernetes: Kubernetes,
    krapao: Krapao,
    settings: MiwenSettings,
    *,
    now: Callable[[], datetime.datetime],
    random: Callable[[], float],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until cancelled. Started once every Decryptor that exists has its task.

    Args:
        now: the wall clock.
        random: gives a number in [0, 1), for jitter.
    """
    reconciler = Reconciler(
        kubernetes,
        now,
        settings.interval_seconds,
        settings.deploy_timeout_seconds,
        Places(settings.max_concurrent_deployments),
        settings.policy,
    )
    loop = DecryptorLoop(kubernetes, krapao, reconciler, random)
    async with trio.open_nursery() as nursery:
        if settings.alive_file is not None:
            nursery.start_soon(_show_life, trio.Path(settings.alive_file))
        decryptors = Decryptors(nursery, loop.run)
        await nursery.start(lambda task_status: follow(kubernetes, decryptors, random=random, task_status=task_status))
        task_status.started()


async def _show_life(file: trio.Path) -> None:
    while True:
        try:
            await file.touch()
        except OSError as error:
            # The probe tells; a full disk is no reason to stop following.
            _log.warning("alive-file-not-touched", file=str(file), error=error.strerror)
        await trio.sleep(ALIVE_INTERVAL_SECONDS)
