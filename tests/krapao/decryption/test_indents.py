"""A file that is wanted as it is has the bytes of the real `sops decrypt` in the repository, indentation included."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.content.sops_config import Indents, read_indents
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.decryption.port import WantedForm
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.miwen.reconcile.render import SECRET_VALUES
from jiemi.rpc.contract import Rendered, RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials, Source

TREE = {"a": {"b": {"c": "x", "l": ["y", {"z": "1\n2\n", "n": [[]]}]}}, "t": "one\n two\n", "n": 7, "e": {}}
PLAIN = {"yaml": json.dumps(TREE), "json": json.dumps(TREE), "dotenv": "A=b\n", "ini": "[s]\na = b\n", "binary": " x\n"}
UNREADABLE = {
    "a space first": {"l": ["  x\ny", "z"], "m": {"n": "  x\ny"}},
    "an empty line first": {"l": ["\n\nz\n"]},
    "a list in a list": {"l": [[" a\nb"], [["\n c"]]]},
    "a mapping in a list": {"l": [{"k": " a\nb", "m": [" c\nd"]}]},
}
"""Texts of several lines that begin with a space or an empty line: in lists sops's own indentation breaks them."""


class Sops:
    """The program, in a folder that is a repository's."""

    def __init__(self, program: Path, home: Path, pair: AgePair) -> None:
        self.program, self.home, self.pair = program, home, pair
        home.mkdir()
        (home / "key.txt").write_text(pair.private)

    def run(self, *arguments: str) -> bytes:
        environment = {"HOME": str(self.home), "SOPS_AGE_KEY_FILE": str(self.home / "key.txt"), "PATH": "/usr/bin:/bin"}
        run = [str(self.program), *arguments]
        done = subprocess.run(run, cwd=self.home, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def encrypt(self, plain: str, kind: str, *options: str) -> bytes:
        (self.home / "f").write_text(plain)
        kinds = ("--input-type", kind, "--output-type", kind)
        data = self.run(*options, "encrypt", "--age", self.pair.public, *kinds, "f")
        (self.home / "f").write_bytes(data)
        return data

    def decrypt(self, kind: str) -> bytes:
        """What it makes of the file that was encrypted last."""
        return self.run("decrypt", "--input-type", kind, "--output-type", kind, "f")

    def configure(self, text: str) -> bytes:
        (self.home / ".sops.yaml").write_text(text)
        return text.encode()


@pytest.fixture
def sops(sops_path: Path, tmp_path: Path, age_pair: Any) -> Sops:
    return Sops(sops_path, tmp_path / "home", age_pair)


@pytest.fixture
def decrypter(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


async def whole(decrypter: SopsDecrypter, data: bytes, kind: str, pair: Any, indents: Indents) -> bytes:
    keys = (AgeKey(SensitiveText(pair.private)),)
    found = await decrypter.decrypt(data, Format(kind), keys, form=WantedForm(whole=True, indents=indents))
    return found.plain.reveal()


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("indent", [None, 0, 2, 4, 8])
async def test_ciphertext_of_any_indentation_decrypts_to_what_sops_gives(
    decrypter: SopsDecrypter, sops: Sops, kind: str, indent: int | None
) -> None:
    data = sops.encrypt(PLAIN[kind], kind, *(("--indent", str(indent)) if indent is not None else ()))
    assert await whole(decrypter, data, kind, sops.pair, Indents()) == sops.decrypt(kind)


@pytest.mark.parametrize("kind", ["yaml", "json", "binary"])
@pytest.mark.parametrize(
    "config",
    [
        *(f"stores: {{yaml: {{indent: {n}}}, json: {{indent: {n}}}, json_binary: {{indent: {n}}}}}" for n in range(13)),
        "stores: {json: {indent: -1}}",
        "stores: {yaml: {}, json: }",
        "stores:",
        "creation_rules: []",
        "stores: {yaml: {indent: }}\n---\nstores: {yaml: {indent: 2}}",
        "a: &a {indent: 3}\nstores: {yaml: *a, json: *a}",
        "",
        "# nothing",
    ],
)
async def test_the_indentation_of_the_repository_s_sops_yaml_is_obeyed_as_by_sops(
    decrypter: SopsDecrypter, sops: Sops, kind: str, config: str
) -> None:
    data = sops.encrypt(PLAIN[kind], kind)
    indents = read_indents(sops.configure(config))
    assert await whole(decrypter, data, kind, sops.pair, indents) == sops.decrypt(kind)


@pytest.mark.parametrize(
    "config",
    [
        "stores: {yaml: {indent: -1}, json: {indent: -2}}",
        "stores: {yaml: {indent: '2'}, json: {indent: true}}",
        "stores: {yaml: {indent: 2.5}, json: {indent: 1000000}}",
        "stores: [yaml]",
        "stores: {yaml: 2, json: [2]}",
        "- a",
        "stores: {",
    ],
)
def test_what_is_no_indentation_changes_nothing(config: str) -> None:
    assert read_indents(config.encode()) == Indents()


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("indent", [2, 4, 8])
async def test_what_sops_would_write_unreadable_is_indented_so_that_it_can_be_read(
    decrypter: SopsDecrypter, sops: Sops, name: str, indent: int
) -> None:
    tree = UNREADABLE[name]
    data = sops.encrypt(json.dumps(tree), "yaml")
    found = await whole(decrypter, data, "yaml", sops.pair, Indents(yaml=indent))
    [document] = parse_documents(found, Format.YAML, max_documents=1)
    assert json.loads(document) == tree


async def test_a_text_of_that_kind_that_sops_writes_well_keeps_its_bytes(decrypter: SopsDecrypter, sops: Sops) -> None:
    data = sops.encrypt(json.dumps({"m": {"n": "  x\ny"}, "l": [1]}), "yaml")
    wanted = sops.decrypt("yaml")
    assert b"|4-\n" in wanted
    assert await whole(decrypter, data, "yaml", sops.pair, Indents()) == wanted


class Lab:
    """A repository that Krapao renders files of."""

    def __init__(self, git_server: GitServer, work: Any, settings: KrapaoSettings, sops: Sops) -> None:
        self._git_server, self._work, self._sops = git_server, work, sops
        self._settings = attrs.evolve(settings, sops=sops.program)
        git_server.create("r.git")

    async def render(self, files: dict[str, bytes], path: str, **more: Any) -> Rendered:
        revision = self._work.commit(files)
        self._work.push(self._git_server.root / "r.git")
        request = RenderRequest(revision, path, keys=(AgeKey(SensitiveText(self._sops.pair.private)),), **more)
        source = Source(self._git_server.url_of("r.git"))
        async with open_service(self._settings) as krapao, krapao.open(source, GitCredentials()) as repository:
            return await repository.render(request)


@pytest.mark.parametrize("config", [None, "stores: {yaml: {indent: 2}, json: {indent: 3}}"])
@pytest.mark.parametrize("kind", ["yaml", "json"])
async def test_a_file_of_a_repository_and_a_file_in_a_value_come_as_sops_gives_them(
    git_server: GitServer, work: Any, settings: KrapaoSettings, sops: Sops, config: str | None, kind: str
) -> None:
    data = sops.encrypt(PLAIN[kind], kind, "--indent", "8")
    files = {f"d/f.{kind}": data}
    if config is not None:
        files[".sops.yaml"] = sops.configure(config)
    wanted = sops.decrypt(kind)
    lab = Lab(git_server, work, settings, sops)
    rendered = await lab.render(files, f"d/f.{kind}", whole_file=True)
    assert rendered.content is not None
    assert rendered.content.reveal() == wanted
    texts = {"stringData": {f"f.{kind}": data.decode()}, "data": {f"g.{kind}": base64.b64encode(data).decode()}}
    holder = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, **texts}
    files |= {"d/s.json": json.dumps(holder).encode()}
    rendered = await lab.render(files, "d/s.json", allow_plain=True, nested=(SECRET_VALUES,))
    found = json.loads(rendered.documents[0].reveal())
    assert found["stringData"][f"f.{kind}"].encode() == wanted
    assert base64.b64decode(found["data"][f"g.{kind}"]) == wanted
