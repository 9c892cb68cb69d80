"""Miwen killed (SIGKILL) at random moments during a churn of commits: `just soak-kill [KILLS] [SEED]`.

After each kill it is started again, and the cluster must end as git describes: no orphan, no missing object, no
duplicate entry in the history. It prints how many kills came in the middle of a deployment.
"""

from __future__ import annotations

import sys
import time

from bench.bench_lab import open_lab
from support.e2e import kill_churn


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 100_000
    print(f"seed {seed}", flush=True)
    with open_lab() as (lab, _):
        churn = kill_churn.start(lab, "soak-kill", seed)
        began = time.monotonic()
        churn.run(kills)
    took = time.monotonic() - began
    print(
        f"{churn.kills} kills in {took:.0f} s, each ended as git describes; {churn.in_deployment} came in a deployment"
    )


if __name__ == "__main__":
    main()
