"""A stated format beside the real `sops decrypt --input-type`: every format, under names that tell nothing or lie."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.krapao.age_files import AgePair
from support.krapao.work_tree import Work

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import NestedPlaces, Rendered, RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials, Source

PLAIN = {
    "yaml": "apiVersion: v1\nkind: Secret\nmetadata:\n    name: a\nstringData:\n    p: canary\n",
    "json": '{"auths": {"registry.example": {"auth": "canary"}}}\n',
    "dotenv": "# of production\nP=canary\nQ=a=b\n",
    "ini": "[s]\np = canary\n",
    "binary": "\x01canary\n\n",
}
NAMES = (".env.production", "values.yaml.enc", ".dockerconfigjson", "config.yaml.sops", "secrets.properties", "none")
NAMES_OF_OTHERS = ("a.yaml", "a.json", "a.env", "a.ini", "A.YAML")


class Lab:
    """A repository, a key, sops, and Krapao."""

    def __init__(
        self, git_server: GitServer, work: Work, settings: KrapaoSettings, sops: Path, home: Path, pair: AgePair
    ) -> None:
        self.git_server, self.work, self.sops, self.home, self.pair = git_server, work, sops, home, pair
        self.settings = attrs.evolve(settings, sops=sops)
        git_server.create("r.git")
        home.mkdir()
        (home / "key.txt").write_text(pair.private)

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What sops gives."""
        environment = {"HOME": str(self.home), "SOPS_AGE_KEY_FILE": str(self.home / "key.txt"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [self.sops, *arguments], cwd=self.home, env=environment, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def encrypt(self, kind: str, name: str, content: str | None = None) -> bytes:
        (self.home / name).write_text(PLAIN[kind] if content is None else content)
        data = self.run(
            *("encrypt", "--age", self.pair.public, "--input-type", kind, "--output-type", kind),
            name,
        )
        (self.home / name).write_bytes(data)
        return data

    async def render(self, name: str, data: bytes, format: str | None, **more: Any) -> Rendered:
        revision = self.work.commit({name: data})
        self.work.push(self.git_server.root / "r.git")
        keys = (AgeKey(SensitiveText(self.pair.private)),)
        stated = Format(format) if format is not None else None
        request = RenderRequest(revision, name, None, keys, format=stated, **more)
        source = Source(self.git_server.url_of("r.git"))
        async with open_service(self.settings) as krapao, krapao.open(source, GitCredentials()) as repository:
            return await repository.render(request)


@pytest.fixture
def lab(
    git_server: GitServer, work: Work, settings: KrapaoSettings, sops_path: Path, tmp_path: Path, age_pair: AgePair
) -> Lab:
    return Lab(git_server, work, settings, sops_path, tmp_path / "home", age_pair)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("name", NAMES + NAMES_OF_OTHERS)
async def test_a_stated_format_opens_a_file_as_sops_does_with_that_input_type(lab: Lab, kind: str, name: str) -> None:
    data = lab.encrypt(kind, name)
    wanted = lab.run("decrypt", "--input-type", kind, "--output-type", kind, name)
    rendered = await lab.render(name, data, kind, whole_file=True)
    assert rendered.content is not None
    assert rendered.content.reveal() == wanted
    assert rendered.format is Format(kind)
    assert rendered.encrypted


@pytest.mark.parametrize(
    ("kind", "name", "document"),
    [
        ("yaml", "values.yaml.enc", b'"stringData":{"p":"canary"}'),
        ("json", ".dockerconfigjson", b'{"auths":{"registry.example":{"auth":"canary"}}}'),
        ("dotenv", ".env.production", b'{"P":"canary","Q":"a=b"}'),
        ("ini", "secrets.properties", b'"s":{"p":"canary"}'),
    ],
)
async def test_documents_are_read_in_the_stated_format(lab: Lab, kind: str, name: str, document: bytes) -> None:
    rendered = await lab.render(name, lab.encrypt(kind, name), kind)
    [found] = rendered.documents
    assert document in found.reveal()
    assert rendered.content is None


async def test_a_binary_file_of_any_name_comes_whole(lab: Lab) -> None:
    rendered = await lab.render("a.yaml", lab.encrypt("binary", "a.yaml"), "binary")
    assert rendered.documents == ()
    assert rendered.content is not None
    assert rendered.content.reveal() == PLAIN["binary"].encode()


@pytest.mark.parametrize(
    ("kind", "name"), [("dotenv", ".env.production"), ("yaml", "values.enc"), ("json", ".dockerconfigjson")]
)
async def test_a_plain_file_is_read_in_the_stated_format_too(lab: Lab, kind: str, name: str) -> None:
    rendered = await lab.render(name, PLAIN[kind].encode(), kind, allow_plain=True)
    [found] = rendered.documents
    assert b"canary" in found.reveal()
    assert not rendered.encrypted


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("stated", PLAIN)
async def test_another_format_than_the_files_is_refused_with_the_one_to_state(lab: Lab, kind: str, stated: str) -> None:
    if (kind, stated) in {(kind, kind), ("json", "yaml"), ("binary", "json"), ("binary", "yaml")}:
        return  # the same, or JSON, which is YAML as well
    data = lab.encrypt(kind, "x")
    for allow_plain in (False, True):
        with pytest.raises(JiemiError) as caught:
            await lab.render("x", data, stated, whole_file=True, allow_plain=allow_plain)
        failure = caught.value.failure
        assert failure.reason in ("UnknownFormat", "NotEncrypted", "DecryptionFailed")
        assert "canary" not in failure.message
        assert f"State {kind} in spec.source.format" in failure.text


async def test_content_that_is_a_sops_file_once_more_is_wanted_in_the_stated_format(lab: Lab) -> None:
    inner = lab.encrypt("yaml", "inner")
    outer = lab.encrypt("binary", "values.json", inner.decode())
    again = NestedPlaces(own=True, content=True)
    rendered = await lab.render("values.json", outer, "binary", whole_file=True, nested=(again,))
    assert rendered.opened == 1
    assert rendered.content is not None
    assert rendered.content.reveal().split() == PLAIN["yaml"].encode().split()
