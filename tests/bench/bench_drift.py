"""How fast what others do to Secrets is put right: `just bench-drift [TRIALS]`.

In turn, a Secret's value is changed, a key is added to it, and it is deleted, each time by a field manager of another
name, while Miwen's interval is an hour. The time is from before the foreign write is sent until a read shows the Secret
as git has it. The trials go round over so many Secrets, one Decryptor each, that none is corrected more often than a
fight (`jiemi.miwen.state.correction_backoff`) begins. At the end the Events are counted that name their trial's
manager; of a deletion, which names nobody since the API server keeps no name, those that tell it.
"""

from __future__ import annotations

import base64
import statistics
import sys
import time
from collections import defaultdict

from bench.bench_lab import open_lab
from support.e2e.scene import Scene, listed, seconds_until, secret

from jiemi.miwen.state.correction_backoff import CORRECTIONS

SORTS = ("value changed", "key added", "object deleted")
WANTED = {"a": "one", "b": "two"}


def trial(scene: Scene, name: str, sort: str, manager: str) -> float:
    """Do it, and return the seconds until the Secret is right again."""
    path = scene.secret_path(name)
    value = base64.b64encode(b"theirs").decode()
    uid = (scene.object(path) or {})["metadata"]["uid"]
    began = time.monotonic()
    if sort == "object deleted":
        scene.lab.admin.call("DELETE", f"{path}?fieldManager={manager}").ok()
    else:
        scene.write(path, {"data": {"a" if sort == "value changed" else "extra": value}}, manager=manager)

    def is_right() -> bool:
        if sort == "object deleted" and (scene.object(path) or {"metadata": {"uid": uid}})["metadata"]["uid"] == uid:
            return False
        return scene.data(name) == WANTED

    seconds_until(f"{name} is right after {sort}", is_right, seconds=60)
    return time.monotonic() - began


def told(scene: Scene, name: str, sort: str, manager: str) -> bool:
    """Whether an Event names the manager, or tells the deletion."""
    words = "was deleted" if sort == "object deleted" else f"field manager {manager};"
    return any(words in note for note in scene.notes(name, "Drifted"))


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with open_lab() as (lab, _):
        scene = Scene(lab, lab.namespace("bench-drift"))
        _, address = lab.start_krapao()
        lab.start_miwen(address, scene.namespace, interval="1h")
        names = [f"s{number}" for number in range(-(-trials // CORRECTIONS))]
        repository = lab.repository()
        files = {f"{name}.yaml": lab.encrypt(listed(secret(name, **WANTED))) for name in names}
        revision = repository.commit(files)
        for name in names:
            scene.put(name, repository.url, source={"fileToDecrypt": f"{name}.yaml"})
        for name in names:
            scene.until_settled(name, revision)
        took: defaultdict[str, list[float]] = defaultdict(list)
        done: list[tuple[str, str, str]] = []
        for number in range(trials):
            # Each Secret meets each sort once.
            name = names[number % len(names)]
            sort = SORTS[(number % len(names) + number // len(names)) % len(SORTS)]
            manager = f"intruder-{number}"
            took[sort].append(trial(scene, name, sort, manager))
            done.append((name, sort, manager))
        time.sleep(3)  # Events are written behind
        for sort in SORTS:
            seconds = sorted(took[sort])
            named = sum(told(scene, *each) for each in done if each[1] == sort)
            print(
                f"{sort}: {len(seconds)} trials, median {statistics.median(seconds):.3f} s, "
                f"95th percentile {seconds[-(-len(seconds) * 95 // 100) - 1]:.3f} s, maximum {seconds[-1]:.3f} s; "
                f"{named} told in an Event"
            )
        print(f"all: maximum {max(max(seconds) for seconds in took.values()):.3f} s")


if __name__ == "__main__":
    main()
