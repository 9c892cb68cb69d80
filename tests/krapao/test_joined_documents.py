"""Documents that were encrypted one by one and put into one file, by the real sops, which reads only some of that."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.objects.manifests import read_manifests
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.rendering.streams import MAX_PARTS, split_stream
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.miwen.reconcile.render import SECRET_VALUES
from jiemi.rpc.contract import Rendered, RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials, Source

PLAIN = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: plain\ndata:\n  a: 'yes'\n"


def secret(name: str, value: str = "canary") -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n  a: {value}\n"


def as_json(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "canary"}}


class Lab:
    """A repository, two keys, sops, and Krapao."""

    def __init__(
        self,
        git_server: GitServer,
        work: Work,
        settings: KrapaoSettings,
        sops: Path,
        encrypt: Encrypter,
        pairs: tuple[AgePair, AgePair],
    ) -> None:
        self.git_server, self.work, self.sops = git_server, work, sops
        self._encrypt, (self.pair, self.other) = encrypt, pairs
        self.settings = attrs.evolve(settings, sops=sops)
        git_server.create("r.git")

    def sealed(self, plain: str, *options: str, to: AgePair | None = None) -> str:
        return self._encrypt(plain, "--age", (to or self.pair).public, *options).decode()

    def by_sops(self, data: str, home: Path) -> bytes | None:
        """What sops itself makes of a file; None where it refuses it."""
        environment = {"HOME": str(home), "SOPS_AGE_KEY": self.pair.private, "PATH": "/usr/bin:/bin"}
        run = [str(self.sops), "decrypt", "--input-type", "yaml", "--output-type", "yaml"]
        done = subprocess.run(run, input=data.encode(), env=environment, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    async def render(self, data: str, keys: tuple[AgePair, ...] = (), **more: Any) -> Rendered:
        revision = self.work.commit({"s.yaml": data})
        self.work.push(self.git_server.root / "r.git")
        given = tuple(AgeKey(SensitiveText(pair.private)) for pair in keys or (self.pair,))
        request = RenderRequest(revision, "s.yaml", None, given, **more)
        source = Source(self.git_server.url_of("r.git"))
        async with open_service(self.settings) as krapao, krapao.open(source, GitCredentials()) as repository:
            return await repository.render(request)

    async def names(self, data: str, **more: Any) -> list[str]:
        """Names of the objects; those that are not encrypted in brackets. Each value of theirs is looked at."""
        rendered = await self.render(data, **more)
        manifests, failures = read_manifests(
            rendered.documents, path="s.yaml", decrypted=rendered.encrypted, plain=rendered.plain_documents
        )
        assert failures == ()
        names = []
        for each in manifests:
            is_plain = not rendered.encrypted or each.document - 1 in rendered.plain_documents
            assert (each.body.get("stringData") or each.body["data"]) == {"a": "yes" if is_plain else "canary"}
            names.append(f"[{each.body['metadata']['name']}]" if is_plain else each.body["metadata"]["name"])
        return names

    async def refused(self, data: str, **more: Any) -> str:
        with pytest.raises(JiemiError) as caught:
            await self.render(data, **more)
        assert "canary" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def lab(
    git_server: GitServer,
    work: Work,
    settings: KrapaoSettings,
    sops_path: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
    other_age_pair: AgePair,
) -> Lab:
    return Lab(git_server, work, settings, sops_path, encrypt, (age_pair, other_age_pair))


WAYS: dict[str, tuple[Callable[[Lab], str], list[str]]] = {
    "two": (lambda lab: lab.sealed(secret("a")) + "---\n" + lab.sealed(secret("b")), ["a", "b"]),
    "a mark first and last": (
        lambda lab: "---\n" + lab.sealed(secret("a")) + "---\n" + lab.sealed(secret("b")) + "---\n",
        ["a", "b"],
    ),
    "comments between": (
        lambda lab: "# ours\n" + lab.sealed(secret("a")) + "---\n# mine\n---\n" + lab.sealed(secret("b")),
        ["a", "b"],
    ),
    "a stream of sops's and another file": (
        lambda lab: lab.sealed(secret("a") + "---\n" + secret("b")) + "---\n" + lab.sealed(secret("c")),
        ["a", "b", "c"],
    ),
    "two streams of sops's": (
        lambda lab: "---\n".join(lab.sealed(secret(f"a{n}") + "---\n" + secret(f"b{n}")) for n in "12"),
        ["a1", "b1", "a2", "b2"],
    ),
    "parts of each encrypted": (
        lambda lab: "---\n".join(lab.sealed(secret(n), "--encrypted-regex", "^stringData$") for n in "abc"),
        ["a", "b", "c"],
    ),
    "of JSON": (
        lambda lab: "\n---\n".join(
            lab._encrypt(json.dumps(as_json(name)), "--age", lab.pair.public, kind="json").decode() for name in "ab"
        ),
        ["a", "b"],
    ),
    "of JSON on one line": (
        lambda lab: "\n---\n".join(
            json.dumps(json.loads(lab._encrypt(json.dumps(as_json(name)), "--age", lab.pair.public, kind="json")))
            for name in "ab"
        ),
        ["a", "b"],
    ),
    "of Windows": (
        lambda lab: (lab.sealed(secret("a")) + "---\n" + lab.sealed(secret("b"))).replace("\n", "\r\n"),
        ["a", "b"],
    ),
    "end marks and remarks": (
        lambda lab: lab.sealed(secret("a")) + "...\n--- # the other\n" + lab.sealed(secret("b")) + "...\n",
        ["a", "b"],
    ),
    "a plain one last": (lambda lab: lab.sealed(secret("a")) + "---\n" + PLAIN, ["a", "[plain]"]),
    "a plain one first": (lambda lab: PLAIN + "---\n" + lab.sealed(secret("a")), ["[plain]", "a"]),
    "a plain one between": (
        lambda lab: lab.sealed(secret("a")) + "---\n" + PLAIN + "---\n" + lab.sealed(secret("b")),
        ["a", "[plain]", "b"],
    ),
    "plain ones about": (
        lambda lab: "---\n".join((PLAIN, PLAIN, lab.sealed(secret("a")), PLAIN, "# no more\n")),
        ["[plain]", "[plain]", "a", "[plain]"],
    ),
    "a plain one and one of values": (
        lambda lab: lab.sealed(secret("a"), "--encrypted-regex", "^stringData$") + "---\n" + PLAIN,
        ["a", "[plain]"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_each_document_with_a_block_of_its_own_is_opened_and_plain_ones_are_read_as_plain_files(
    lab: Lab, way: str, tmp_path: Path
) -> None:
    make, names = WAYS[way]
    data = make(lab)
    assert lab.by_sops(data, tmp_path) is None
    assert await lab.names(data, allow_plain=True) == names


@pytest.mark.parametrize("allow_plain", [False, True])
@pytest.mark.parametrize(
    "plain", [secret("a"), secret("a") + "---\n" + secret("b"), secret("a") + "---\nnull\n---\n" + secret("b")]
)
async def test_what_sops_reads_as_one_file_is_opened_as_one(
    lab: Lab, plain: str, allow_plain: bool, tmp_path: Path
) -> None:
    data = lab.sealed(plain)
    assert split_stream(data.encode()) is None
    assert lab.by_sops(data, tmp_path) is not None
    assert await lab.names(data, allow_plain=allow_plain) == [n for n in "ab" if f"name: {n}" in plain]


@pytest.mark.parametrize("allow_plain", [False, True])
@pytest.mark.parametrize("rest", ["---\n{}\n", "---\nnull\n", "---\n# a remark\n", "BLOCK LEFT OUT"])
async def test_what_sops_opens_though_a_document_has_no_block_is_opened_still(
    lab: Lab, rest: str, allow_plain: bool, tmp_path: Path
) -> None:
    if rest == "BLOCK LEFT OUT":
        data = lab.sealed(secret("a") + "---\n" + secret("b"))
        head, _ = data.rsplit("sops:\n", 1)
        data, names = head, ["a", "b"]
    else:
        data, names = lab.sealed(secret("a")) + rest, ["a"]
    assert lab.by_sops(data, tmp_path) is not None
    assert await lab.names(data, allow_plain=allow_plain) == names


async def test_documents_for_different_recipients_are_opened_by_the_keys_of_each(lab: Lab) -> None:
    data = lab.sealed(secret("a")) + "---\n" + lab.sealed(secret("b"), to=lab.other)
    assert await lab.names(data, keys=(lab.pair, lab.other)) == ["a", "b"]
    assert "s.yaml: document 2: no key given opens the file" in await lab.refused(data)
    rendered = await lab.render(data, keys=(lab.pair, lab.other))
    assert rendered.encryption.recipients == (f"age {lab.pair.public}", f"age {lab.other.public}")


async def test_a_plain_document_in_the_file_that_must_be_encrypted_is_refused_by_its_number(lab: Lab) -> None:
    data = lab.sealed(secret("a")) + "---\n" + secret("forgotten")
    message = await lab.refused(data)
    assert message.startswith("NotEncrypted: s.yaml: document 2: it is not encrypted, though other documents")
    assert "name the file in spec.source.files" in message
    assert (await lab.refused(secret("x") + "---\n" + secret("y") + "---\n" + data)).startswith(
        "NotEncrypted: s.yaml: documents 1 to 2: "
    )


@pytest.mark.parametrize("allow_plain", [False, True])
async def test_a_document_that_was_changed_is_reported_by_its_number(lab: Lab, allow_plain: bool) -> None:
    parts = [lab.sealed(secret(n), "--encrypted-regex", "^stringData$") for n in "abc"]
    for index, number in ((0, 1), (1, 2), (2, 3)):
        changed = [*parts]
        changed[index] = changed[index].replace("kind: Secret", "kind: ConfigMap")
        message = await lab.refused("---\n".join(changed), allow_plain=allow_plain)
        assert message.startswith(f"MacMismatch: s.yaml: document {number}: ")


async def test_a_stream_of_sops_s_is_not_opened_in_pieces(lab: Lab) -> None:
    """Its MAC is over all documents, in their order."""
    one, two = secret("a"), secret("b")
    whole = lab.sealed(one + "---\n" + two, "--encrypted-regex", "^stringData$")
    begin = whole.index("---\napiVersion")
    first, second = whole[:begin], whole[begin:].removeprefix("---\n")
    other = lab.sealed(secret("c"))
    for data in (
        first,
        second + "---\n" + first,
        first + "---\n" + other + "---\n" + second,
        first + "---\n" + PLAIN + "---\n" + second,
        first + "---\n" + other,
    ):
        assert (await lab.refused(data, allow_plain=True)).startswith("MacMismatch: ")


async def test_ciphertext_that_lost_its_block_is_no_plain_document(lab: Lab) -> None:
    lost = lab.sealed(secret("b")).split("sops:\n")[0]
    for data in (lab.sealed(secret("a")) + "---\n" + lost, lost + "---\n" + lab.sealed(secret("a"))):
        assert (await lab.refused(data, allow_plain=True)).startswith("NotEncrypted: s.yaml: document ")


async def test_a_mac_over_the_encrypted_values_only_is_reported_for_each_document(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "c").write_text(f"creation_rules:\n- mac_only_encrypted: true\n  age: {lab.pair.public}\n")
    only = lab._encrypt(secret("b"), env={"SOPS_CONFIG": str(tmp_path / "c")}).decode()
    assert "mac_only_encrypted: true" in only
    full = lab.sealed(secret("a"))
    for data, names, number in ((full + "---\n" + only, ["a", "b"], 2), (only + "---\n" + full, ["b", "a"], 1)):
        assert await lab.names(data) == names
        assert (await lab.render(data)).encryption.mac_only_encrypted is True
        message = await lab.refused(data, require_full_mac=True)
        assert message.startswith(f"MacOnlyEncrypted: s.yaml: document {number}: ")
    both = full + "---\n" + lab.sealed(secret("b"))
    assert (await lab.render(both, require_full_mac=True)).encryption.mac_only_encrypted is False


async def test_a_value_that_is_a_file_in_a_plain_document_needs_a_mac_over_it_where_that_is_required(lab: Lab) -> None:
    inner = lab.sealed("x: canary\n")
    holder = secret("h", json.dumps(inner))
    data = lab.sealed(secret("a")) + "---\n" + holder
    rendered = await lab.render(data, allow_plain=True, nested=(SECRET_VALUES,))
    assert (rendered.opened, rendered.plain_documents) == (1, (1,))
    assert "x: canary" in json.loads(rendered.documents[1].reveal())["stringData"]["a"]
    message = await lab.refused(data, allow_plain=True, nested=(SECRET_VALUES,), require_full_mac=True)
    assert message.startswith("MacOnlyEncrypted: s.yaml: document 2: ")


async def test_a_whole_file_has_its_documents_one_after_the_other(lab: Lab) -> None:
    data = lab.sealed("a: canary\n") + "---\n" + lab.sealed("b: canary\n")
    rendered = await lab.render(data, whole_file=True)
    assert rendered.content is not None
    assert rendered.content.reveal() == b"a: canary\n---\nb: canary\n"
    rendered = await lab.render(data + "---\nc: plain\n", whole_file=True, allow_plain=True)
    assert rendered.content is not None
    assert rendered.content.reveal() == b"a: canary\n---\nb: canary\n---\nc: plain\n"


async def test_the_documents_of_a_file_share_its_bounds(lab: Lab) -> None:
    one = lab.sealed(secret("a"))
    parts = "---\n".join(one.replace("mac: ENC[AES256_GCM,data:", f"mac: ENC[AES256_GCM,data:{n}") for n in range(101))
    assert (await lab.refused(parts)).startswith(
        f"LimitExceeded: s.yaml: more than {MAX_PARTS} documents of the file have a sops block of their own. "
    )
    lab.settings = attrs.evolve(lab.settings, max_key_requests=2)
    assert len(await lab.names("---\n".join(lab.sealed(secret(n)) for n in "ab"))) == 2
    message = await lab.refused("---\n".join(lab.sealed(secret(n)) for n in "abc"))
    assert message.startswith("LimitExceeded: s.yaml: document 3: the file asks for more data keys")
    lab.settings = attrs.evolve(lab.settings, max_key_requests=200, max_documents=2)
    assert "the file has more than 2 documents" in await lab.refused("---\n".join(lab.sealed(secret(n)) for n in "abc"))


@given(
    st.lists(st.sampled_from([b"---", b"\n", b"a: b\n", b"# c\n", b"sops: {mac: 'ENC[AES256_GCM,data:1]'}\n", b" x"]))
)
def test_parts_are_made_of_the_stream_s_own_bytes_in_their_order(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    found = split_stream(data)
    if found is None:
        return
    rest = data
    for part in found.parts:
        _, between, rest = rest.partition(part.data)
        assert between
    assert any(part.is_encrypted for part in found.parts)
    assert [part.first for part in found.parts] == sorted({part.first for part in found.parts})
