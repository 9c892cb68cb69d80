"""Values that are SOPS files themselves: decrypted by the real sops in their place, within the bounds of one file."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.age_files import AgePair, Encrypter

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.content.ciphertext import find_ciphertext, format_of_content
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.krapao.decryption.port import Decrypted
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.rendering.file_renderer import RenderingTools
from jiemi.krapao.rendering.nested import MAX_VALUES, open_values
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.worker import Worker
from jiemi.rpc.contract import NestedPlaces, Rendered, RenderRequest
from jiemi.rpc.keys import AgeKey

SECRETS = NestedPlaces(
    having=(("apiVersion", "v1"), ("kind", "Secret")),
    texts=("stringData",),
    encoded=("data",),
    lists=("items",),
    unless=("metadata", "annotations", "jiemi.cr/ciphertext", "keep"),
)
OWN = NestedPlaces(own=True, lacking=("apiVersion",), content=True)
REVISION = "1" * 40
CANARY = "canary-nested-1f2e3d"
DATA = Path(__file__).parents[2] / "data"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def secret(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, **fields}


@attrs.frozen
class Krapao:
    """A worker with the real sops, asked for one file."""

    worker: Worker
    decrypter: SopsDecrypter
    keys: tuple[AgeKey, ...]

    async def open(self, data: bytes | dict[str, Any], path: str = "s.yaml", **fields: Any) -> Rendered:
        content = json.dumps(data).encode() if isinstance(data, dict) else data
        given: dict[str, Any] = {"allow_plain": True, "nested": (SECRETS,), "keys": self.keys} | fields
        request = RenderRequest(REVISION, path, **given)
        with trio.fail_after(60):
            return await self.worker._open(content, None, request, Askers())

    async def document(self, data: bytes | dict[str, Any], path: str = "s.yaml", **fields: Any) -> Any:
        [found] = (await self.open(data, path, **fields)).documents
        return json.loads(found.reveal())

    async def refused(self, data: bytes | dict[str, Any], path: str = "s.yaml", **fields: Any) -> str:
        with pytest.raises(JiemiError) as caught:
            await self.open(data, path, **fields)
        text = str(caught.value)
        assert CANARY not in text
        return text


@pytest.fixture
async def krapao(
    nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path, age_pair: AgePair
) -> Krapao:
    settings = attrs.evolve(settings, sops=sops_path, runtime_dir=runtime)
    decrypter = SopsDecrypter(nursery, settings)
    tools = RenderingTools(decrypter, decrypter.reading, FairLimiter(2))
    store: Any = None  # the file is given
    worker = Worker("x", store, tools, settings, nursery)
    return Krapao(worker, decrypter, (AgeKey(SensitiveText(age_pair.private)),))


FILES = [
    ("yaml", "app.yaml", f"password: {CANARY}\n", f"password: {CANARY}\n"),
    ("json", "app.json", json.dumps({"password": CANARY}), json.dumps({"password": CANARY}, indent="\t") + "\n"),
    ("dotenv", "app.env", f"# a comment\nPASSWORD={CANARY}\n", f"# a comment\nPASSWORD={CANARY}\n"),
    ("ini", "app.ini", f"[db]\npassword = {CANARY}\n", f"[db]\npassword = {CANARY}\n"),
    ("binary", "tls.key", f"{CANARY}\n", f"{CANARY}\n"),
    # The key's name need not tell the format.
    ("yaml", "values", f"password: {CANARY}\n", f"password: {CANARY}\n"),
    ("dotenv", "config", f"PASSWORD={CANARY}\n", f"PASSWORD={CANARY}\n"),
    ("binary", "config.yaml", f"x: {CANARY}\n", f"x: {CANARY}\n"),
    # Where it tells another, it is the one that is wanted, as with Flux.
    ("yaml", "app.json", f"password: {CANARY}\n", json.dumps({"password": CANARY}, indent="\t") + "\n"),
    ("json", ".dockerconfigjson", json.dumps({"a": CANARY}), json.dumps({"a": CANARY}, indent="\t") + "\n"),
    ("yaml", "app.env", f"PASSWORD: {CANARY}\n", f"PASSWORD={CANARY}\n"),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file[0]}-{file[1]}")
@pytest.mark.parametrize("outer", ["plain", "encrypted"])
@pytest.mark.parametrize("field", ["data", "stringData"])
async def test_a_value_of_a_secret_that_is_a_sops_file_is_decrypted_in_its_place(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair, file: tuple[str, str, str, str], outer: str, field: str
) -> None:
    kind, key, plain, expected = file
    nested = encrypt(plain, "--age", age_pair.public, kind=kind)
    value = b64(nested) if field == "data" else nested.decode()
    manifest = secret(**{field: {key: value, "other": b64(b"left") if field == "data" else "left"}})
    data: bytes | dict[str, Any] = manifest
    if outer == "encrypted":
        data = encrypt(json.dumps(manifest), "--age", age_pair.public)
    rendered = await krapao.open(data)
    [found] = [json.loads(each.reveal()) for each in rendered.documents]
    value = found[field][key]
    opened = base64.b64decode(value).decode() if field == "data" else value
    if "json" in key:
        assert json.loads(opened) == json.loads(expected)
    else:
        assert opened == expected
    assert found[field]["other"] == manifest[field]["other"]
    assert (rendered.encrypted, rendered.opened) == (outer == "encrypted", 1)
    assert rendered.encryption.recipients == (f"age {age_pair.public}",)
    assert rendered.encryption.mac_only_encrypted is False
    assert find_ciphertext(found) is None


async def test_block_text_of_a_yaml_file_as_people_write_it_is_decrypted(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = encrypt(f"# why\na: {CANARY}\nb:\n    - c\n", "--age", age_pair.public).decode()
    block = "".join(f"    {line}\n" for line in nested.splitlines())
    folded = "\n".join(b64(nested.encode())[at : at + 76] for at in range(0, len(b64(nested.encode())), 76))
    text = (
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\nstringData:\n  app.yaml: |\n{block}"
        "data:\n  folded.yaml: |\n" + "".join(f"    {line}\n" for line in folded.splitlines())
    )
    found = await krapao.document(text.encode())
    assert found["stringData"]["app.yaml"] == f"# why\na: {CANARY}\nb:\n    - c\n"
    assert base64.b64decode(found["data"]["folded.yaml"]).decode() == f"# why\na: {CANARY}\nb:\n    - c\n"


async def test_values_in_lists_and_several_documents_are_decrypted_each(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = encrypt(f"A={CANARY}\n", "--age", age_pair.public, kind="dotenv")
    one = secret(data={"a.env": b64(nested)})
    many = {"apiVersion": "v1", "kind": "List", "items": [one, {"kind": "List", "items": [one]}, {"kind": "X"}]}
    rendered = await krapao.open(f"{json.dumps(many)}\n---\n{json.dumps(one)}\n".encode())
    first, second = (json.loads(each.reveal()) for each in rendered.documents)
    for found in (first["items"][0], first["items"][1]["items"][0], second):
        assert base64.b64decode(found["data"]["a.env"]).decode() == f"A={CANARY}\n"
    assert rendered.opened == 3


async def test_a_value_that_is_encrypted_more_than_once_is_decrypted_to_the_end(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    def times(count: int) -> str:
        value = f"a: {CANARY}\n"
        for _ in range(count):
            value = encrypt(value, "--age", age_pair.public, kind="binary").decode()
        return value

    assert (await krapao.document(secret(stringData={"a": times(3)})))["stringData"] == {"a": f"a: {CANARY}\n"}
    said = await krapao.refused(secret(stringData={"a": times(4)}))
    assert said.startswith("LimitExceeded: document 1, stringData.a: encrypted more than 3 times over")


async def test_other_objects_and_annotated_ones_are_left_as_they_are(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = encrypt(f"a: {CANARY}\n", "--age", age_pair.public)
    value = b64(nested)
    for manifest in (
        {"apiVersion": "v1", "kind": "ConfigMap", "binaryData": {"a": value}, "data": {"a": nested.decode()}},
        {"apiVersion": "v1", "kind": "Pod", "data": {"a": value}},
        {"apiVersion": "x.example/v1", "kind": "Secret", "data": {"a": value}},
        secret(data={"a": value}, metadata={"name": "x", "annotations": {"jiemi.cr/ciphertext": "keep"}}),
        secret(spec={"data": {"a": value}}),
    ):
        assert await krapao.document(manifest) == manifest
        assert find_ciphertext(manifest) is not None


@pytest.mark.parametrize("size", [1, 8_000])
async def test_single_encrypted_values_stay_in_an_object_that_says_so_and_nowhere_else(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair, size: int
) -> None:
    """However the file is read: the long one is by a program of its own."""
    block = json.loads(encrypt(json.dumps({"a": CANARY}), "--age", age_pair.public, kind="json"))
    values = {"alone": block["a"], **{f"k{number}": "x" for number in range(size)}}
    keeps = {"name": "x", "annotations": {"jiemi.cr/ciphertext": "keep"}}
    kept = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": keeps, "data": values}
    assert await krapao.document(kept) == kept
    for other in ({**kept, "metadata": {"name": "x"}}, {**kept, "metadata": {"name": "x", "labels": keeps}}):
        said = await krapao.refused(other)
        assert said.startswith("NotEncrypted: it has encrypted values but no SOPS metadata")
        assert said.endswith("if the ciphertext itself is meant, set metadata.annotations.jiemi.cr/ciphertext: keep.")
    beside = b"\n---\n".join(json.dumps(each).encode() for each in (secret(stringData={"a": block["a"]}), kept))
    assert (await krapao.refused(beside)).startswith("NotEncrypted: it has encrypted values but no SOPS metadata")
    assert (await krapao.refused({**kept, "sops": block["sops"]})).startswith("MacMismatch: ")


async def test_a_file_of_several_documents_keeps_all_or_is_refused(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    several = encrypt(f"a: {CANARY}\n---\nb: c\n", "--age", age_pair.public)
    found = await krapao.document(secret(stringData={"a.yaml": several.decode()}))
    assert found["stringData"] == {"a.yaml": f"a: {CANARY}\n---\nb: c\n"}
    one = b"---\n# why\n" + encrypt(f"a: {CANARY}\n", "--age", age_pair.public)
    for key in ("a.json", "a.env", "a.ini"):
        said = await krapao.refused(secret(data={key: b64(several)}))
        assert said.startswith(f"UnknownFormat: document 1, data.{key}: it has several documents, of which sops would")
        said = await krapao.refused(secret(data={key: b64(several.decode().encode("utf-16"))}))
        assert said.startswith(f"UnknownFormat: document 1, data.{key}: it has several documents, of which sops would")
    found = await krapao.document(secret(stringData={"a.json": one.decode(), "b.env": one.decode()}))
    assert json.loads(found["stringData"]["a.json"]) == {"a": CANARY}
    assert CANARY in found["stringData"]["b.env"]


async def test_what_the_keys_format_has_no_form_for_is_reported_as_that(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = b64(encrypt(f"a: {{b: {CANARY}}}\nc: [d]\n", "--age", age_pair.public))
    for key, format in (("a.env", "dotenv"), ("a.ini", "ini")):
        said = await krapao.refused(secret(data={key: nested}))
        assert f"document 1, data.{key}: the file holds what {format} has no form for" in said


async def test_a_text_that_tells_of_a_whole_file_is_refused_with_the_way_out(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    told = f"# How\n\n```yaml\n{encrypt('a: b', '--age', age_pair.public).decode()}```\n"
    said = await krapao.refused(secret(stringData={"README.md": told}))
    assert said.startswith(
        "UnknownFormat: document 1, stringData.README.md: the encrypted file can't be read as yaml. "
    )
    assert said.endswith("if the text only describes such a file, set metadata.annotations.jiemi.cr/ciphertext: keep.")
    manifest = secret(
        metadata={"name": "x", "annotations": {"jiemi.cr/ciphertext": "keep"}}, stringData={"README.md": told}
    )
    assert await krapao.document(manifest) == manifest


async def test_windows_line_ends_in_an_encrypted_dotenv_file_are_reported_as_what_they_are(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = encrypt(f"A={CANARY}\n", "--age", age_pair.public, kind="dotenv").replace(b"\n", b"\r\n")
    for said in (await krapao.refused(nested, "s.env"), await krapao.refused(secret(data={"a.env": b64(nested)}))):
        assert "its lines end in Windows' way" in said


@pytest.mark.parametrize("content", ["a", "", "%%%", "bm90IHNvcHM=", {"x": 1}, 5, None])
async def test_what_is_no_sops_file_is_left_as_it_is(krapao: Krapao, content: object) -> None:
    manifest = secret(data={"a": content}, stringData={"b": content})
    assert await krapao.document(manifest) == manifest


async def test_a_key_that_is_missing_or_a_value_that_was_changed_fails_the_file_and_names_the_place(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair, other_age_pair: AgePair
) -> None:
    good = encrypt(f"a: {CANARY}\n", "--age", age_pair.public)
    other = encrypt(f"a: {CANARY}\n", "--age", other_age_pair.public)
    said = await krapao.refused(secret(data={"good": b64(good), "app.yaml": b64(other)}))
    assert said.startswith(
        "KeyMissing: document 1, data.app.yaml: no key given opens the file. The file is for: age age1"
    )
    changed = good.replace(b"type:str]\nsops:", b"type:int]\nsops:")
    assert changed != good
    said = await krapao.refused(secret(stringData={"app.yaml": changed.decode()}))
    assert said.startswith("MacMismatch: document 1, stringData.app.yaml: ")
    said = await krapao.refused(secret(stringData={"a\u202eb": other.decode()}))
    assert said.startswith("KeyMissing: document 1, stringData.…: ")


async def test_the_policys_recipients_bind_nested_files_too(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair, other_age_pair: AgePair
) -> None:
    nested = encrypt(f"a: {CANARY}\n", "--age", f"{age_pair.public},{other_age_pair.public}")
    manifest = secret(data={"a": b64(nested)})
    allowed = await krapao.document(manifest, allowed_recipients=(age_pair.public,))
    assert base64.b64decode(allowed["data"]["a"]).decode() == f"a: {CANARY}\n"
    assert "PolicyDenied: document 1, data.a: " in await krapao.refused(manifest, allowed_recipients=("age1other",))


async def test_a_file_of_which_only_values_are_encrypted_counts_as_encrypted_and_one_without_does_not(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = encrypt(f"a: {CANARY}\n", "--age", age_pair.public)
    rendered = await krapao.open(secret(data={"a.yaml": b64(nested)}), allow_plain=False)
    assert rendered.opened == 1
    assert not rendered.encrypted
    each_way: tuple[dict[str, Any], ...] = ({}, {"nested": ()})
    for fields in each_way:
        said = await krapao.refused(secret(stringData={"a": "b"}), allow_plain=False, **fields)
        assert said.startswith("NotEncrypted: the file has no sops block: it is not encrypted with sops. Encrypt it")
    said = await krapao.refused(secret(data={"a.yaml": b64(nested)}), allow_plain=False, nested=())
    assert said.startswith("NotEncrypted: ")


async def test_where_full_macs_are_wanted_none_may_be_missing_around_an_encrypted_value(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    """A writer without the key would choose the name and the namespace that the values go to."""
    nested = encrypt(f"password: {CANARY}\n", "--age", age_pair.public, kind="yaml").decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "leak"}, "stringData": {"x": nested}}
    each_way: tuple[dict[str, Any], ...] = ({}, {"allow_plain": False})
    for fields in each_way:
        assert "MacOnlyEncrypted" in await krapao.refused(secret, require_full_mac=True, **fields)
        assert CANARY in (await krapao.document(secret, **fields))["stringData"]["x"]
    whole = encrypt(json.dumps(secret), "--age", age_pair.public, kind="json")
    assert CANARY in (await krapao.document(whole, "s.json", require_full_mac=True))["stringData"]["x"]


@pytest.mark.parametrize("kind", ["yaml", "json", "dotenv", "ini"])
async def test_a_mac_of_encrypted_values_only_is_reported_and_refused_wherever_the_file_is(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "c").write_text(f"creation_rules:\n- mac_only_encrypted: true\n  age: {age_pair.public}\n")
    plain = {"json": '{"a": "b"}', "ini": "[a]\nb = c\n", "dotenv": "A=b\n"}.get(kind, "a: b\n")
    age = ("--age", age_pair.public)
    nested = encrypt(plain, kind=kind, env={"SOPS_CONFIG": str(tmp_path / "c")})
    assert b"mac_only_encrypted" in nested
    twice = encrypt(nested.decode(), *age, kind="binary")
    manifest = secret(data={"first": b64(encrypt("a: b\n", *age)), "x": b64(nested)})
    outer = encrypt(json.dumps(manifest), *age)
    for data, fields in (
        (manifest, {}),
        ({"apiVersion": "v1", "kind": "List", "items": [manifest]}, {}),
        (secret(stringData={"x": nested.decode()}), {}),
        (secret(data={"x": b64(twice)}), {}),
        (outer, {}),
        (outer, {"allow_plain": False}),
        (encrypt(twice.decode(), *age, kind="binary"), {"path": "x", "whole_file": True, "nested": (OWN,)}),
        (encrypt(json.dumps({"X": nested.decode()}), *age), {"nested": (SECRETS, OWN)}),
    ):
        rendered = await krapao.open(data, **fields)
        assert rendered.opened > 0
        assert rendered.encryption.mac_only_encrypted is True
        assert (await krapao.refused(data, require_full_mac=True, **fields)).startswith("MacOnlyEncrypted: ")


async def test_what_takes_time_is_done_in_no_thread_that_all_share(
    krapao: Krapao, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[threading.Thread] = []

    def look(*_: object) -> tuple[str, ...]:
        seen.append(threading.current_thread())
        return ()

    monkeypatch.setattr("jiemi.krapao.rendering.file_opener.with_carriage_returns", look)
    await krapao.open(b"A=1\r\n", "s.env")
    assert len(seen) == 1
    assert seen[0] is not threading.current_thread()


async def test_values_of_a_target_are_decrypted(krapao: Krapao, encrypt: Encrypter, age_pair: AgePair) -> None:
    nested = encrypt(f"a: {CANARY}\n", "--age", age_pair.public).decode()
    for path, data in (
        ("a.yaml", json.dumps({"app.yaml": nested, "other": "x"}).encode()),
        ("a.env", f"app.yaml={nested.replace(chr(10), chr(92) + 'n')}\nother=x\n".encode()),
    ):
        for outer in (data, encrypt(data.decode(), "--age", age_pair.public, kind=path[2:].replace("env", "dotenv"))):
            found = await krapao.document(outer, path, nested=(SECRETS, OWN))
            assert found == {"app.yaml": f"a: {CANARY}\n", "other": "x"}
    # An object's own texts are none of a target's values.
    manifest = secret(app=nested)
    assert await krapao.document(manifest, nested=(SECRETS, OWN)) == manifest


async def test_a_file_that_is_wanted_whole_and_is_a_sops_file_once_more_is_decrypted(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    inner = encrypt(f"a: {CANARY}\n", "--age", age_pair.public)
    outer = encrypt(inner.decode(), "--age", age_pair.public, kind="binary")
    rendered = await krapao.open(outer, "app.bin", whole_file=True, nested=(OWN,))
    assert rendered.content is not None
    assert rendered.content.reveal().decode() == f"a: {CANARY}\n"
    assert (rendered.encrypted, rendered.opened) == (True, 1)
    untouched = await krapao.open(outer, "app.bin", whole_file=True, nested=())
    assert untouched.content is not None
    assert untouched.content.reveal() == inner


async def test_a_value_that_is_no_text_can_only_be_base64(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = (DATA / "sops-3.12.2" / "all.bin").read_text()
    keys = (AgeKey(SensitiveText((DATA / "age-test-key.txt").read_text())),)
    found = await krapao.document(secret(data={"a": b64(nested.encode())}), keys=keys)
    assert base64.b64decode(found["data"]["a"]) == b"correct horse\0\x01\n"
    del encrypt, age_pair


# --- bounds


async def test_nested_files_share_the_bounds_of_their_file(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    nested = b64(encrypt(f"a: {CANARY}\n", "--age", age_pair.public))
    few = attrs.evolve(krapao.worker._settings, max_key_requests=2)
    krapao.decrypter._settings = few
    assert (await krapao.open(secret(data={"a": nested, "b": nested}))).opened == 2
    said = await krapao.refused(secret(data={"a": nested, "b": nested, "c": nested}))
    assert said.startswith("LimitExceeded: document 1, data.c: the file asks for more data keys than Krapao's limit")
    outer = encrypt(json.dumps(secret(data={"a": nested, "b": nested})), "--age", age_pair.public)
    assert "LimitExceeded: document 1, data.b: " in await krapao.refused(outer)


async def test_what_nested_files_decrypt_to_is_bounded_together(
    krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    big = b64(encrypt("x" * 3000, "--age", age_pair.public, kind="binary"))
    krapao.decrypter._limits = attrs.evolve(krapao.decrypter._limits, output_bytes=7000)
    assert (await krapao.open(secret(data={"a": big, "b": big}))).opened == 2
    assert "LimitExceeded: document 1, data.c: " in await krapao.refused(secret(data={"a": big, "b": big, "c": big}))


async def test_time_is_shared_too(krapao: Krapao, encrypt: Encrypter, age_pair: AgePair) -> None:
    nested = b64(encrypt(f"a: {CANARY}\n", "--age", age_pair.public))
    await krapao.open(secret(data={"a": nested}))  # what confines processes is found out once
    krapao.decrypter._limits = attrs.evolve(krapao.decrypter._limits, seconds=1.5)
    began = trio.current_time()
    said = await krapao.refused(secret(data={f"k{number}": nested for number in range(99)}))
    assert said.startswith("Timeout: document 1, data.k")
    assert trio.current_time() - began < 10


async def test_more_values_than_there_may_be_are_refused() -> None:
    data = (DATA / "sops-3.12.2" / "all.env").read_bytes()
    document = SensitiveBytes(
        json.dumps(
            secret(data={f"k{number}": b64(data) for number in range(MAX_VALUES + 1)}),
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
    )
    runs = 0

    async def open(data: bytes, format: Format, output: Format) -> Decrypted:
        nonlocal runs
        runs += 1
        assert (format, output) == (Format.DOTENV, Format.DOTENV)
        return Decrypted(SensitiveBytes(b"A=b\n"))

    with pytest.raises(JiemiError, match="LimitExceeded: more than 100 values"):
        await open_values((document,), (SECRETS,), open, FairThreads(FairLimiter(1), Askers()))
    assert runs == MAX_VALUES


# --- properties

SAMPLES = {path: path.read_bytes() for path in sorted(DATA.glob("sops-*/*")) if path.is_file()}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
KEYS = st.from_regex(r"\A[-._a-zA-Z0-9]{1,20}\Z")


def render(tree: Any, open: Any) -> tuple[Any, int]:
    document = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    async def run() -> Any:
        return await open_values((SensitiveBytes(document),), (SECRETS,), open, FairThreads(FairLimiter(1), Askers()))

    found = trio.run(run)
    return json.loads(found.documents[0].reveal()), found.count


async def never(data: bytes, format: Format, output: Format) -> Decrypted:
    raise AssertionError("nothing is to be decrypted")


ALMOST = st.sampled_from(
    [
        "sops:\n  mac: ENC[AES256_GCM,data:…]\n",
        "it looks like ENC[AES256_GCM,data:x]",
        "[sops]\na=1\n",
        "sops_mac=1\n",
        '{"sops": {"mac": "x"}}',
        "# see `sops: {mac: ENC[AES256_GCM,data:...,iv:...,tag:...,type:str]}`\n",
    ]
)


@given(st.dictionaries(KEYS, TEXTS | ALMOST, max_size=4), st.dictionaries(KEYS, st.binary(max_size=60), max_size=4))
def test_any_other_value_stays_as_it_is(texts: dict[str, str], data: dict[str, bytes]) -> None:
    tree = secret(stringData=texts, data={key: b64(value) for key, value in data.items()})
    assert render(tree, never) == (tree, 0)


@given(
    st.sampled_from(sorted(SAMPLES)),
    KEYS,
    st.lists(st.integers(0, 2), max_size=5),
    st.booleans(),
    st.sampled_from(["", "\ufeff", "\n\n", "  \n"]),
)
def test_any_file_of_sops_is_found_wherever_its_secret_is(
    sample: Path, key: str, nesting: list[int], encoded: bool, before: str
) -> None:
    text = before + SAMPLES[sample].decode()
    value = b64(text.encode()) if encoded else text
    tree: Any = secret(**{"data" if encoded else "stringData": {key: value}})
    for others in nesting:
        tree = {"kind": "List", "items": [secret(), *[{"kind": "X"}] * others, tree]}
    seen: list[bytes] = []

    async def open(data: bytes, format: Format, output: Format) -> Decrypted:
        seen.append(data)
        assert format is format_of_content(SAMPLES[sample])
        return Decrypted(SensitiveBytes(b"opened"))

    found, count = render(tree, open)
    assert (seen, count) == ([text.encode()], 1)
    assert find_ciphertext(found) is None
    assert find_ciphertext(tree) is not None
