"""Output of sops is recognized by its content: whole files, and ciphertext that stands on its own."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.ciphertext import (
    ENCRYPTED,
    decoded,
    find_ciphertext,
    format_of_content,
    format_under,
    holds_ciphertext,
    shown,
    unescaped,
)
from jiemi.core.content.formats import Format

DATA = Path(__file__).parents[2] / "data"
FORMATS = {".yaml": Format.YAML, ".json": Format.JSON, ".env": Format.DOTENV, ".ini": Format.INI, ".bin": Format.BINARY}
SAMPLES = {path: path.read_bytes() for path in sorted(DATA.glob("sops-*/*")) if path.suffix in FORMATS}
IV, TAG = "A" * 43 + "=", "B" * 22 + "=="
SEALED = f"{ENCRYPTED}YWJj,iv:{IV},tag:{TAG},type:str]"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_each_file_of_each_sops_release_is_recognized_with_its_format(path: Path) -> None:
    data = SAMPLES[path]
    assert format_of_content(data) is FORMATS[path.suffix]
    assert format_of_content(b"\xef\xbb\xbf" + data) is FORMATS[path.suffix]
    assert format_of_content(data.decode().encode("utf-16")) in (FORMATS[path.suffix], None)
    windows = data.replace(b"\n", b"\r\n")
    assert format_of_content(windows) is FORMATS[path.suffix]


@pytest.mark.parametrize(
    ("text", "format"),
    [
        (f"a: {SEALED}\nsops:\n  mac: {SEALED}\n", Format.YAML),
        (f"  a: {SEALED}\n  sops:\n    mac: {SEALED}\n", Format.YAML),
        (f"{{a: '{SEALED}', sops: {{mac: '{SEALED}'}}}}", Format.YAML),
        (f'"sops":\n  "mac": "{SEALED}"\n', Format.YAML),
        (f"a: |\n  [sops]\n  b\nsops:\n  mac: {SEALED}\n", Format.YAML),
        (f"'\\x73ops': x\n\"\\x73ops\":\n  mac: {SEALED}\n", Format.YAML),
        (json.dumps({"data": SEALED, "sops": {"mac": SEALED}}), Format.BINARY),
        (json.dumps({"data": {"a": SEALED}, "sops": {"mac": SEALED}}), Format.JSON),
        (json.dumps({"data": SEALED, "more": 1, "sops": {"mac": SEALED}}), Format.JSON),
        (json.dumps({"a": SEALED, "sops": {"mac": SEALED}}).replace("E", "\\u0045"), Format.JSON),
        (json.dumps({"a": SEALED, "sops": {"mac": SEALED}}).replace("/", "\\/"), Format.JSON),
        (f"A={SEALED}\nsops_mac={SEALED}\n", Format.DOTENV),
        (f"[a]\nb = {SEALED}\n[sops]\nmac = {SEALED}\n", Format.INI),
        # A description of a file is not one.
        (f"a: {ENCRYPTED}…]\nsops:\n  mac: {ENCRYPTED}…]\n", None),
        ("a: b\nsops:\n  mac: x\n", None),
        ("[sops]\na = b\n", None),
        ("sops_mac=x\n", None),
        (f"a: {SEALED}\n", None),
        (json.dumps({"sops": {"mac": "x"}}), None),
        (json.dumps({"sops": SEALED}), None),
        ("", None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_a_text_is_a_sops_file_by_its_metadata_and_a_complete_value(text: str, format: Format | None) -> None:
    assert format_of_content(text.encode()) is format


@pytest.mark.parametrize(
    ("key", "format", "wanted"),
    [
        ("app.yaml", Format.YAML, Format.YAML),
        ("app.json", Format.YAML, Format.JSON),
        (".dockerconfigjson", Format.BINARY, Format.JSON),
        ("app.env", Format.JSON, Format.DOTENV),
        ("values", Format.YAML, Format.YAML),
        ("tls.key", Format.BINARY, Format.BINARY),
        ("app.yaml", Format.BINARY, Format.BINARY),
        ("app.YAML", Format.JSON, Format.JSON),
    ],
)
def test_a_key_implies_the_wanted_format(key: str, format: Format, wanted: Format) -> None:
    assert format_under(key, format) is wanted


@pytest.mark.parametrize(
    "value",
    [
        SEALED,
        f"  \n{SEALED}",
        f"{ENCRYPTED}cut off",
        f"password: {SEALED}\n",
        f"postgres://user:{SEALED}@host",
        f"# a comment\na:\n  - {SEALED}\n",
        json.dumps({"a": SEALED}),
        json.dumps({"a": SEALED}).replace("E", "\\u0045"),
        b64(SEALED),
        b64(b64(SEALED)),
        b64(b64(b64(f"x: {SEALED}"))),
        "\n".join(b64(f"x: {SEALED}")[at : at + 40] for at in range(0, 400, 40)),
        base64.b64encode(f"a: {SEALED}".encode("utf-16")).decode(),
        base64.b64encode(b"\xff\xfe\xfa" + SEALED.encode() + b"\xff").decode(),
        f"\u2028{ENCRYPTED}cut off",
        b64(f"\u2028{ENCRYPTED}cut off"),
    ],
)
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda value: {"data": {"k": value}}, ("data", "k")),
        (lambda value: {"spec": {"a": [{"b": []}, {"c": value}]}}, ("spec", "a", "[1]", "c")),
        (lambda value: [[value]], ("[0]", "[0]")),
    ],
)
def test_ciphertext_is_found_at_any_depth_and_in_base64(value: str, wrap: Any, path: tuple[str, ...]) -> None:
    assert find_ciphertext(wrap(value)) == path


@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_ciphertext_is_found_where_base64_is_only_a_part_of_a_text(before: str, layers: int) -> None:
    value = f"{before}{SEALED}"
    for _ in range(layers):
        value = b64(value)
    lines = [value[at : at + 64] for at in range(0, len(value), 64)]
    for text in (
        json.dumps({"users": [{"user": {"client-key-data": value}}]}),
        f"users:\n- user:\n    client-key-data: {value}\n",
        "write_files:\n- encoding: b64\n  content: |\n    " + "\n    ".join(lines) + "\n  path: /x\n",
        "data:\r\n" + "\r\n".join(lines),
        json.dumps({"pem": "\n".join(lines)}).replace("/", "\\/"),
        f"data:text/plain;base64,{value}",
        f"{before}/{value}",
        f"{before} {value}",
    ):
        assert find_ciphertext({"a": text}) == ("a",), text
        if layers < 3:
            assert find_ciphertext({"a": b64(text)}) == ("a",), text


@pytest.mark.parametrize(
    "value",
    [
        "it looks like ENC[AES256_GCM,data:x]",
        "```yaml\npassword: ENC[AES256_GCM,data:…,iv:…,tag:…,type:str]\nsops:\n    mac: ENC[AES256_GCM,data:…]\n```\n",
        "encrypt it with sops; then it begins with `ENC[`",
        "ENC[something else]",
        b64("ENC[something else] " * 10),
        "a: " + b64("it looks like ENC[AES256_GCM,data:x] " * 10),
        "sops:\n  mac: x\n",
        "A" * 1000,
        b64("A" * 1000),
        "",
        5,
        True,
        None,
        1.5,
    ],
)
def test_a_text_that_only_describes_ciphertext_is_not_ciphertext(value: object) -> None:
    assert find_ciphertext({"a": value, "b": [value]}) is None


def test_a_name_that_is_ciphertext_is_found_and_not_shown() -> None:
    assert find_ciphertext({"data": {SEALED: "x"}}) == ("data", "")
    assert shown(("data", "")) == "data.…"


def test_places_are_shown_by_plain_names_only() -> None:
    assert shown(("spec", "[3]", "a.b/c-d_e")) == "spec[3].a.b/c-d_e"
    assert shown(("data", "a b")) == shown(("data", "x" * 101)) == shown(("data", "\x1b[31m")) == "data.…"
    assert shown(()) == ""


@given(st.sampled_from(sorted(SAMPLES)), st.lists(st.sampled_from(["map", "list", "base64"]), max_size=6))
def test_any_sops_file_is_found_wherever_it_is(sample: Path, wraps: list[str]) -> None:
    value: Any = SAMPLES[sample].decode()
    for wrap in [each for each in wraps if each == "base64"][:3]:
        del wrap
        value = b64(value)
    for wrap in wraps:
        value = {"k": value} if wrap == "map" else [0, value] if wrap == "list" else value
    assert find_ciphertext({"x": value}) is not None


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_nothing_else_is_found(value: Any) -> None:
    assert ENCRYPTED in json.dumps(value) or find_ciphertext(value) is None


@given(st.text(alphabet="\\xuU0123abAB4567E\n N", max_size=40))
def test_unescaping_ends_and_never_grows(text: str) -> None:
    assert len(unescaped(text)) <= len(text)


@given(st.binary(min_size=30, max_size=200))
def test_base64_is_read_as_go_reads_it(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decoded(text) == data
    assert decoded("\n".join((text[:10], text[10:]))) == data
    assert decoded(text + "!") is None


def test_a_large_object_takes_little_time() -> None:
    data = {f"k{number}": b64("x" * 300) for number in range(20_000)}
    data["long"] = "A" * 8_000_000
    data["almost"] = ENCRYPTED[:-1] * 100_000
    data["many"] = f"x{ENCRYPTED}" * 100_000
    data["runs"] = (b64(f"x{ENCRYPTED}") + ":") * 100_000
    data["run"] = ":" + b64(f"xyz{ENCRYPTED}") * 100_000
    began = time.process_time()
    assert find_ciphertext({"data": data, "list": ["a\\" * 10] * 50_000}) is None
    assert time.process_time() - began < 5
    began = time.process_time()
    assert not holds_ciphertext("x" + ENCRYPTED * 200_000)
    assert time.process_time() - began < 5
