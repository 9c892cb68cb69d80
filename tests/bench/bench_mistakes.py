"""How soon a mistake is told: `just bench-mistakes`.

The Decryptors of docs/troubleshooting.md are made one after another, each with one ordinary mistake. The time is from
before the object is sent until a read of its status shows the whole text that is expected.
"""

from __future__ import annotations

import statistics
import time

from bench.bench_lab import open_lab
from mistakes.catalogue import MISTAKES
from mistakes.mistake import Mistake
from mistakes.stage import NAMESPACE, Stage, staged
from support.e2e.lab import until
from support.kubernetes.deploy_manifests import DEPLOY, read_kustomization


def told_after_seconds(stage: Stage, mistake: Mistake) -> float:
    """Make the Decryptor, and wait until its condition Ready says what it should."""
    wanted = (mistake.reason, stage.expected(mistake))

    def is_told() -> bool:
        conditions = stage.lab.status(NAMESPACE, mistake.name).get("conditions", ())
        return wanted in [(each["reason"], each["message"]) for each in conditions if each["type"] == "Ready"]

    began = time.monotonic()
    stage.make(mistake)
    until(f"{mistake.name} is told", is_told, seconds=60)
    return time.monotonic() - began


def main() -> None:
    with open_lab() as (lab, _):
        for manifest in read_kustomization(DEPLOY):
            lab.admin.apply(manifest).ok()
        with staged(lab, lab.admin) as stage:
            took = {mistake.name: told_after_seconds(stage, mistake) for mistake in MISTAKES}
    slowest = sorted(took, key=lambda name: took[name])[-5:][::-1]
    print(f"{len(took)} mistakes, each told after {statistics.median(took.values()):.2f} s (median)")
    print("the slowest: " + ", ".join(f"{name} {took[name]:.2f} s" for name in slowest))


if __name__ == "__main__":
    main()
