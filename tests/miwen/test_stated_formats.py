"""A format that the spec states, in place of what a file's name tells."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fakes.krapao import Content, Plain
from support.miwen.objects import config
from support.miwen.world import INTERVAL, URL, World, miwen, secret
from trio.testing import MockClock

from jiemi.core.content.formats import Format


def source(path: str, **more: Any) -> dict[str, Any]:
    return {"repository": {"url": URL}, "fileToDecrypt": path, **more}


@pytest.mark.parametrize("path", ["values.yaml.enc", "config.yaml.sops", "secrets", ".hidden"])
async def test_a_file_of_objects_with_any_name_is_applied_where_its_format_is_stated(
    world: World, autojump_clock: MockClock, path: str
) -> None:
    world.origin.commit({path: [secret("app", a="x")]})
    world.add(source=source(path))
    async with miwen(world):
        assert world.reason() == "UnknownFormat"
        assert "State yaml or json in spec.source.format" in world.current()["error_message"]
        world.add(source=source(path, format="yaml"))
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "Synced"
        assert world.data("app") == {"a": "x"}
    assert world.krapao.requests[-1].format is Format.YAML


async def test_a_stated_dotenv_file_gives_a_key_for_each_variable_and_a_stated_binary_one_is_kept_whole(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({".env.production": [{"A": "one"}], "whole.yaml": ["the file"]})
    world.add(source=source(".env.production", format="dotenv"), target={"name": "env"})
    world.add("two", source=source("whole.yaml", format="binary"), target={"name": "whole"})
    async with miwen(world):
        assert world.data("env") == {"A": "one"}
        assert world.data("whole") == {"whole.yaml": "the file"}


async def test_each_file_has_the_format_of_the_first_glob_that_takes_it(
    world: World, autojump_clock: MockClock
) -> None:
    files: dict[str, Content] = {
        "a.enc": [secret("a", x="1")],
        "d/b.enc": Plain([config("b", x="2")]),
        "c.yaml": [secret("c", x="3")],
    }
    world.origin.commit(files)
    formats = [{"files": "d/*.enc", "format": "json"}, {"files": "*.enc", "format": "yaml"}]
    world.add(source={"repository": {"url": URL}, "files": ["*.enc", "d/**", "c.yaml"], "formats": formats})
    async with miwen(world):
        assert world.reason() == "Synced"
        assert world.data("a") == {"x": "1"}
        assert world.cluster.get("ConfigMap", "default", "b") is not None
    asked = {request.path: request.format for request in world.krapao.requests}
    assert asked == {"a.enc": Format.YAML, "d/b.enc": Format.JSON, "c.yaml": None}


async def test_a_krapao_that_does_not_know_stated_formats_is_not_believed(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"a.enc": [secret("app", a="x")]})
    world.krapao.knows_formats = False
    world.add(source=source("a.enc", formats=[{"files": "*.enc", "format": "yaml"}]))
    async with miwen(world):
        assert world.reason() == "ProviderNotSupportedYet"
        assert "spec.source.formats[0] states the file's format" in world.current()["error_message"]
        assert world.data("app") is None
