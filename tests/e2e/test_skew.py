"""A Miwen of an earlier release with today's Krapao, real git and real sops.

tests/rpc/test_frozen_schemas.py has the other direction, and the comparison of the schemas.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.e2e.lab import Lab
from support.upgrade.old_client import OldClient, with_old_client
from support.upgrade.schema_evolution import frozen

pytestmark = pytest.mark.e2e

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"password": "one"}}


@pytest.mark.parametrize("schema", frozen(), ids=lambda path: path.stem)
def test_an_earlier_miwen_follows_and_decrypts_by_todays_krapao(lab: Lab, schema: Path) -> None:
    repository = lab.repository({"secret.enc.yaml": lab.encrypt(json.dumps(SECRET)), "plain.yaml": b"a: b\n"})
    revision = repository.run("rev-parse", "HEAD")
    service, address = lab.start_krapao(name=schema.stem)

    async def use(client: OldClient) -> None:
        assert await client.head() == revision
        result = await client.render(revision, "secret.enc.yaml", str(lab.identity))
        assert result.which() == "rendered", result
        assert [json.loads(bytes(document)) for document in result.rendered.documents] == [SECRET]
        if "files" in client.schema.Repository.schema.methods:
            assert await client.files(revision, "*.yaml") == ["plain.yaml", "secret.enc.yaml"]
        refused = await client.render(revision, "plain.yaml", str(lab.identity))
        assert refused.which() == "failure"
        # A reason of later days may be one that it does not know; it goes by what happens next.
        assert refused.failure.reason
        assert refused.failure.message
        assert str(refused.failure.retry) == "stalled"
        pushed: list[str] = []
        moved = await client.moved(lambda: pushed.append(repository.commit({"plain.yaml": b"a: c\n"})))
        assert [moved] == pushed

    with_old_client(schema, address.removeprefix("unix:"), repository.url, use)
    assert service.process.poll() is None
    assert "Traceback" not in service.log_text()
