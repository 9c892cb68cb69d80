"""Whether a MAC covers encrypted values only: never No where the real sops says Yes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.age_files import AgePair

from jiemi.core.content.formats import Format
from jiemi.krapao.reading.mac import is_mac_only_encrypted

DATA = Path(__file__).parents[2] / "data"
SAMPLES = sorted(path for path in DATA.glob("sops-*/*") if path.is_file())
PLAIN = {
    "yaml": "apiVersion: v1\nname: a\npw_x: s\n",
    "json": '{"apiVersion": "v1", "name": "a", "pw_x": "s"}',
    "dotenv": "name=a\npw_x=s\n",
    "ini": "[s]\nname = a\npw_x = s\n",
}
FORMATS = {"yaml": Format.YAML, "json": Format.JSON, "dotenv": Format.DOTENV, "ini": Format.INI}
SAID = re.compile(r"(sops_)?\"?mac_only_encrypted\"?\s*[:=]\s*true")


class Sops:
    def __init__(self, sops: Path, home: Path, public: str, private: str) -> None:
        self._sops = sops
        self._home = home
        (home / "key").write_text(private)
        rule = f'creation_rules:\n- mac_only_encrypted: true\n  encrypted_regex: "_x$"\n  age: {public}\n'
        (home / "c.yaml").write_text(rule)

    def _run(self, *arguments: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        environment = {"HOME": str(self._home), "PATH": "/usr/bin:/bin", "SOPS_DISABLE_VERSION_CHECK": "1"}
        environment |= {"SOPS_AGE_KEY_FILE": str(self._home / "key")}
        run = [str(self._sops), *arguments]
        return subprocess.run(run, input=stdin, cwd=self._home, env=environment, capture_output=True, check=False)

    def encrypt(self, kind: str) -> str:
        types = ("--input-type", kind, "--output-type", kind, "--filename-override", f"x.{kind}")
        done = self._run("--config", "c.yaml", "encrypt", *types, stdin=PLAIN[kind].encode())
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def opens(self, data: bytes, kind: str) -> bool:
        return self._run("decrypt", "--input-type", kind, "--output-type", kind, stdin=data).returncode == 0


@pytest.fixture(scope="module")
def sops(sops_path: Path, tmp_path_factory: pytest.TempPathFactory, age_pair: AgePair) -> Sops:
    return Sops(sops_path, tmp_path_factory.mktemp("sops"), age_pair.public, age_pair.private)


def renamed(text: str) -> str:
    """With a plain value changed, which a MAC of everything would show."""
    changed = re.sub(r'(name"?\s*[:=]\s*"?)a', r"\1b", text, count=1)
    assert changed != text
    return changed


@pytest.mark.parametrize("kind", FORMATS)
def test_such_a_file_is_reported_in_every_format_and_does_not_notice_a_change(sops: Sops, kind: str) -> None:
    text = sops.encrypt(kind)
    assert SAID.search(text) is not None
    assert sops.opens(renamed(text).encode(), kind)
    assert is_mac_only_encrypted(renamed(text).encode(), FORMATS[kind])


WAYS = {
    "yaml": [
        *("mac_only_encrypted: 'true'", "mac_only_encrypted: True", "mac_only_encrypted: 1", "mac_only_encrypted: 't'"),
        *("MAC_only_ENCRYPTED: true", '"mac_only_encrypted": true', '"mac\\x5fonly_encrypted": true'),
        *('"\\u006dac_only_encrypted": true', "? mac_only_encrypted\n    : true", "mac_only_encrypted: !!bool true"),
        *("<<: {mac_only_encrypted: true}", "mac_only_encrypted: 0.5", "'mac_only_encrypted'   : true # false"),
        *("? &k mac_only_encrypted\n    : true", "mac_only_encrypted:\n        true", "mac_only_encrypted: yes"),
        *("# x\u0085    mac_only_encrypted: true", "# x\u2028    mac_only_encrypted: true"),
        *("# x\r    mac_only_encrypted: true", '? "mac_only_\\\n       encrypted"\n    : true'),
        *("mac_only_encrypted: false", "mac_only_encrypted: null", 'mac_only_encrypted: ""', "other: true"),
    ],
    "json": [
        *('"mac_only_encrypted": "true"', '"mac_only_encrypted": 1', '"MAC_ONLY_ENCRYPTED": true'),
        *('"mac\\u005fonly_encrypted": true', '"mac_only_encrypted" : true', '"mac_only_encrypted": false'),
        *('"mac_only_encrypted": false, "mac_only_encrypted": true', '"mac_only_encrypted": "F"'),
        *('"mac_only_encrypted": false, "Mac_only_encrypted": true', '"mac_only_encrypted": [true]'),
    ],
    "dotenv": [
        *("sops_mac_only_encrypted=true", "sops_mac_only_encrypted=1", "sops_MAC_ONLY_encrypted=true"),
        *("sops_mac_only_encrypted=false", "sops_mac_only_encrypted=false\nsops_mac_only_encrypted=true"),
    ],
    "ini": [
        *(
            "mac_only_encrypted=true",
            "mac_only_encrypted: true",
            '"mac_only_encrypted" = true',
            "`mac_only_encrypted`=1",
        ),
        *("t = true\nmac_only_encrypted = %(t)s", "Mac_only_encrypted = T", "mac_only_encrypted = false"),
    ],
}


@pytest.mark.parametrize(("kind", "way"), [(kind, way) for kind, ways in WAYS.items() for way in ways])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_sops_takes_for_such_a_file_is_never_taken_for_another(
    sops: Sops, kind: str, way: str, encoding: str
) -> None:
    made = SAID.sub(lambda _: way, renamed(sops.encrypt(kind)))
    assert way in made
    data = made.encode(encoding)
    # The change of a plain value shows unless the MAC covers encrypted values only.
    if sops.opens(data, kind):
        assert is_mac_only_encrypted(data, FORMATS[kind])


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_files_whose_mac_covers_everything_are_reported_as_such(path: Path) -> None:
    formats = {".yaml": Format.YAML, ".json": Format.JSON, ".env": Format.DOTENV, ".ini": Format.INI}
    assert not is_mac_only_encrypted(path.read_bytes(), formats.get(path.suffix, Format.BINARY))


def test_a_text_that_tells_of_it_is_no_such_file() -> None:
    text = "note: set mac_only_encrypted to true\nb: |\n  sops:\n    mac_only_encrypted: true\nsops:\n  mac: x\n"
    assert not is_mac_only_encrypted(text.encode(), Format.YAML)
    assert not is_mac_only_encrypted(b'{"a": "mac_only_encrypted: true", "sops": {"mac": "x"}}', Format.JSON)


@given(st.binary(max_size=300), st.sampled_from(list(Format)))
def test_no_bytes_break_it(data: bytes, format: Format) -> None:
    assert is_mac_only_encrypted(data, format) is False
    assert is_mac_only_encrypted(data + b"\nsops_mac_only_encrypted=true\n", Format.DOTENV)
