"""What is in the cluster stays while a host answers badly: rows of tests/hostile, on a real API server.

Nothing is deleted or overwritten, the Decryptor is not Ready meanwhile, and it follows again once its host answers
rightly.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from hostile.cases_hosts import CHANGED, ChangedCase
from support.e2e.lab import Lab
from support.e2e.scene import Scene, condition, secret
from support.network.changed_answers import Answer, Change, between

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-hostile-hosts"
ROWS = (
    "host-delta-bomb",
    "host-delta-beyond",
    "host-pack-other",
    "host-pack-checksum",
    "host-fatal",
    "host-page",
    "host-hash-nowhere",
    "host-ref-name",
    "host-refs-none",
    "host-challenge",
)
"""Of each kind of answer, and such as end alike with Krapao's usual settings."""
CASES = tuple(case for case in CHANGED if case.name in ROWS)


@attrs.define
class Turning:
    """A host that can be turned into a hostile one.

    Attributes:
        address: of the proxy before the lab's git server.
        change: what it does to answers now; None for nothing.
    """

    address: str = ""
    hostile: Change | None = None

    def change(self, path: str, answer: Answer) -> Answer:
        return answer if self.hostile is None else self.hostile(path, answer)


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Turning]:
    lab.namespace(NAMESPACE)
    turning = Turning()
    with between(lab.git, turning.change) as turning.address:
        _, address = lab.start_krapao(name="hostile-hosts")
        lab.start_miwen(address, NAMESPACE, interval="1s")
        yield turning
        lab.end_services()


def test_the_rows_are_there() -> None:
    assert tuple(case.name for case in CASES) == tuple(sorted(ROWS, key=[each.name for each in CHANGED].index))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_deployed_stays_while_its_host_answers_badly(lab: Lab, host: Turning, case: ChangedCase) -> None:
    scene, name = Scene(lab, NAMESPACE), case.name
    repository = lab.repository()
    first = scene.commit(repository, secret(name, value="first"), secret(f"{name}-more", value="first"))
    scene.put(name, f"{host.address}/{repository.name}", prune=True, ref={"branch": "main"})
    scene.until_settled(name, first)
    before = [scene.existing(scene.secret_path(each)) for each in (name, f"{name}-more")]
    try:
        # The second object is taken out: a tick that believed the host would prune it.
        host.hostile = case.change(None)  # type: ignore[arg-type]  # none of these rows looks at the laboratory
        second = scene.commit(repository, secret(name, value="second"))
        found = scene.until_condition(name, "Ready", "False", case.gets)
        assert case.says in found["message"]
        assert [scene.existing(scene.secret_path(each)) for each in (name, f"{name}-more")] == before
        status = scene.status(name)
        assert status["current"]["revision"] == first
        assert condition(status, "Ready")["status"] == "False"
    finally:
        host.hostile = None
    scene.until_settled(name, second)
    assert scene.data(name) == {"value": "second"}
    assert scene.object(scene.secret_path(f"{name}-more")) is None
    scene.delete_decryptor(name)
