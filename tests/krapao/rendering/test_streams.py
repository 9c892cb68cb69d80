"""Encrypted streams as people write them, by the real sops: what is in them, and what is not."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.work_tree import Work

from jiemi.core.objects.manifests import read_manifests
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials, Source

ONE = "apiVersion: v1\nkind: Secret\nmetadata: {name: one}\nstringData: {a: b}\n"
TWO = ONE.replace("one", "two")

STREAMS = {
    "a last ---": (ONE + "---\n", ["one"]),
    "several of them": (ONE + "---\n---\n---\n" + TWO + "---\n---\n", ["one", "two"]),
    "comments only": (ONE + "---\n# nothing yet\n---\n" + TWO, ["one", "two"]),
    "a null": (ONE + "---\nnull\n---\n~\n" + TWO.replace("api", "---\napi", 1), ["one", "two"]),
    "an empty mapping": (ONE + "---\n{}\n", ["one"]),
    "an end mark": (ONE + "...\n---\n" + TWO + "...\n", ["one", "two"]),
    "comments first": ("# ours\n---\n" + ONE, ["one"]),
    "breaks of Unicode in a text": (
        ONE.replace("{a: b}", '{a: "b\\u2028c\\u2029d\\u0085e"}') + "---\n" + TWO,
        ["one", "two"],
    ),
    "a break of Unicode before dashes": (
        ONE.replace("{a: b}", '{a: "b\\u2028--- c\\L---\\N---\\P"}') + "---\n" + TWO,
        ["one", "two"],
    ),
    "the same among lines": (
        ONE.replace("{a: b}", '{a: "b\\n\\L---\\nc\\n\\N---\\n"}') + "---\n" + TWO,
        ["one", "two"],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_documents_that_hold_nothing_keep_no_others_from_being_applied(
    name: str,
    git_server: GitServer,
    work: Work,
    settings: KrapaoSettings,
    sops_path: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    content, names = STREAMS[name]
    git_server.create("r.git")
    revision = work.commit({"s.yaml": encrypt(content, "--age", age_pair.public)})
    work.push(git_server.root / "r.git")
    request = RenderRequest(revision, "s.yaml", None, (AgeKey(SensitiveText(age_pair.private)),))
    source = Source(git_server.url_of("r.git"))
    async with (
        open_service(attrs.evolve(settings, sops=sops_path)) as krapao,
        krapao.open(source, GitCredentials()) as repository,
    ):
        rendered = await repository.render(request)
    manifests, failures = read_manifests(rendered.documents, path="s.yaml", decrypted=rendered.encrypted)
    assert [each.body["metadata"]["name"] for each in manifests] == names
    assert failures == ()
    texts = {each.body["metadata"]["name"]: each.body["stringData"] for each in manifests}
    assert texts["one"] == {"a": TEXTS.get(name, "b")}


TEXTS = {
    "breaks of Unicode in a text": "b\u2028c\u2029d\x85e",
    "a break of Unicode before dashes": "b\u2028--- c\u2028---\x85---\u2029",
    "the same among lines": "b\n\u2028---\nc\n\x85---\n",
}
