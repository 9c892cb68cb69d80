"""A file's name tells the format as it tells it to the real sops, when it encrypts and when it decrypts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter

from jiemi.core.content.ciphertext import format_of_content
from jiemi.core.content.formats import format_of
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.port import WantedForm
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey

PLAIN = b'{"a=": "b"}\n'
"""Something in each of sops's formats, and something else in each."""

NAMES = [
    *("a.yaml", "a.yml", "a.json", "a.env", "a.ini", ".env", ".yaml", ".json", ".ini", ".yml"),
    *("A.JSON", "b.YML", "b.Yml", "b.Yaml", "B.YAML", "C.ENV", "c.Env", "D.INI", "d.iNi", ".ENV", ".Yaml"),
    *("x", "x.", "x.env.local", ".env.production", "a.yaml.enc", "a.enc.yaml", "a.yaml.bak", "yaml", "json", "env"),
    *("x.pem", "x.toml", "x.tfvars", "x.properties", "X.yaml", "é.json", "a b.env", "a.YAML.json", "a.json.YAML"),
]


def run(sops: Path, home: Path, *arguments: str) -> bytes:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SOPS_DISABLE_VERSION_CHECK": "1"}
    environment |= {"SOPS_AGE_KEY_FILE": str(home / "key.txt")}
    done = subprocess.run([sops, *arguments], cwd=home, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_tells_the_format_that_it_tells_sops(
    name: str,
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    tmp_path: Path,
    age_pair: AgePair,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "key.txt").write_text(age_pair.private)
    (home / name).write_bytes(PLAIN)
    encrypted = run(sops_path, home, "encrypt", "--age", age_pair.public, name)
    assert format_of_content(encrypted) is format_of(name)
    (home / name).write_bytes(encrypted)
    decrypted = run(sops_path, home, "decrypt", name)
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    keys = (AgeKey(SensitiveText(age_pair.private)),)
    ours = await decrypter.decrypt(encrypted, format_of(name), keys, form=WantedForm(whole=True))
    assert ours.plain.reveal() == decrypted


async def test_a_file_that_was_encrypted_as_another_format_than_its_name_tells_is_refused_with_that_format(
    nursery: trio.Nursery,
    settings: KrapaoSettings,
    sops_path: Path,
    runtime: Path,
    encrypt: Encrypter,
    age_pair: AgePair,
) -> None:
    """As `sops encrypt --input-type yaml B.YML` makes one."""
    data = encrypt("a: b\n", "--age", age_pair.public)
    decrypter = SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))
    keys = (AgeKey(SensitiveText(age_pair.private)),)
    with pytest.raises(
        JiemiError, match="nothing tells the file's format, so it counts as bytes, but sops has encrypted it as yaml"
    ):
        await decrypter.decrypt(data, format_of("B.YML"), keys)
