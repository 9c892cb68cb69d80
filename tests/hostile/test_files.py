"""Each hostile file gets what its row says; no credential leaves, nothing is left, and the next tenant is served."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import attrs
import pytest
import trio
from hostile import cases_answers, cases_bombs, cases_destinations, cases_mac
from hostile.case import OPENS, Case
from hostile.lab import Keys, Lab, secret
from hostile.left import Before, contents, require_no_canary, told
from structlog.testing import capture_logs

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption.guard import DATA_KEY_BYTES
from jiemi.krapao.decryption.sops import SopsDecrypter, open_decrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey

CASES = (*cases_destinations.CASES, *cases_answers.CASES, *cases_mac.CASES, *cases_bombs.CASES)
DEADLINE_SECONDS = 130
"""More than the time that a run of sops may take here, so that a row which takes that fails by its reason."""

MORE_CPU_SECONDS = 10
"""Beside a row's own: the start of sops and of holders, and the next tenant's file."""


def children_cpu_seconds() -> float:
    """Processor time of our children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def render(decrypter: SopsDecrypter, data: bytes, format: Format, keys: Keys) -> list[object]:
    """As Krapao's worker does it: the documents of a file."""
    plain = (await decrypter.decrypt(data, format, keys)).plain.reveal()
    if format is Format.BINARY:
        return [plain]
    return [json.loads(each) for each in parse_documents(plain, format, max_documents=1_000)]


async def require_next_tenant_served(lab: Lab, decrypter: SopsDecrypter) -> None:
    assert await render(decrypter, lab.other_file, Format.YAML, (lab.other,)) == [{"a": "of the next tenant"}]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_file_gets_what_its_row_says(
    case: Case, lab: Lab, settings: KrapaoSettings, measures: Measures, passed: list[bytes], tmp_path: Path
) -> None:
    data, keys = case.file(lab), case.keys(lab)
    heard, before, spent = lab.stranger.received, Before.now(), children_cpu_seconds()
    settings = attrs.evolve(settings, **case.settings(lab))
    error: JiemiError | None = None
    documents: list[object] = []
    with capture_logs() as logs, trio.fail_after(DEADLINE_SECONDS):
        async with open_decrypter(settings) as decrypter:
            decrypter._measures = measures
            try:
                documents = await render(decrypter, data, case.format, keys)
            except JiemiError as caught:
                error = caught
            passed_on = tuple(passed)
            await require_next_tenant_served(lab, decrypter)
        await before.require_again()
    assert children_cpu_seconds() - spent < settings.decrypt_cpu_seconds + MORE_CPU_SECONDS
    assert lab.stranger.received == heard
    assert all(len(each) in DATA_KEY_BYTES for each in passed_on)
    if error is None:
        assert case.gets == OPENS
        case.opened(lab, documents)
    else:
        assert (error.failure.reason, case.says in error.failure.text) == (case.gets, True), str(error)
        assert error.failure.text.isprintable()
    require_no_canary(lab, "an error", [told(error).encode()])
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path))
    require_no_canary(lab, "what an opener was given", passed_on)


async def test_a_vault_that_was_trusted_the_first_time_is_not_changed_by_the_next_file(
    lab: Lab, settings: KrapaoSettings, measures: Measures
) -> None:
    heard = lab.stranger.received
    async with open_decrypter(settings) as decrypter:
        decrypter._measures = measures
        first = lab.asks_vault(lab.vault.address, enc=lab.in_vault())
        opened = await decrypter.decrypt(first, Format.YAML, (lab.vault_key(),))
        assert opened.vault_address == lab.vault.address
        with pytest.raises(JiemiError, match="was sent to"):
            await decrypter.decrypt(
                lab.asks_vault(lab.stranger.address),
                Format.YAML,
                (lab.vault_key(pinned_address=opened.vault_address),),
            )
        await require_next_tenant_served(lab, decrypter)
    assert lab.stranger.received == heard


async def test_the_stranger_would_have_heard_a_credential_that_reaches_it(
    lab: Lab, settings: KrapaoSettings, measures: Measures
) -> None:
    async with open_decrypter(settings) as decrypter:
        decrypter._measures = measures
        named = lab.vault_key(address=secret(lab.stranger.address), token=secret("hvs.meant-for-the-stranger"))
        with pytest.raises(JiemiError):
            await decrypter.decrypt(lab.asks_vault(lab.stranger.address), Format.YAML, (named,))
    assert lab.stranger.saw("hvs.meant-for-the-stranger")


def test_each_key_of_the_laboratory_holds_a_canary_where_there_can_be_one(lab: Lab) -> None:
    keys = (lab.age, lab.pgp, lab.named_vault, lab.aws(), lab.gcp(), lab.azure(), lab.huawei())
    for key in keys:
        revealed = [value.reveal() for value in attrs.asdict(key, recurse=False).values() if hasattr(value, "reveal")]
        assert any(canary in text for canary in lab.canaries for text in revealed), key.provider
    assert isinstance(keys[0], AgeKey)
