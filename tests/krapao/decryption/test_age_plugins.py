"""Identities of age plugins: used where the operator gives a folder of plugins, refused otherwise."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption.age_keys import _encode
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey

PLUGIN = Path(__file__).parents[2] / "data" / "age-plugin-test"
RECIPIENT = _encode("age1test", b"recipient")
IDENTITY = _encode("age-plugin-test-", b"identity").upper()


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    shutil.copy(PLUGIN, folder)
    return folder


@pytest.fixture
def data(sops_path: Path, plugins: Path, tmp_path: Path) -> bytes:
    """A file for the plugin's recipient."""
    argv = [str(sops_path), "encrypt", "--input-type", "yaml", "--output-type", "yaml", "--age", RECIPIENT]
    done = subprocess.run(
        [*argv, "--filename-override", "x.yaml"],
        input=b"a: SECRET-VALUE\n",
        env={"HOME": str(tmp_path), "PATH": str(plugins), "SOPS_DISABLE_VERSION_CHECK": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def real(settings: KrapaoSettings, sops_path: Path, runtime: Path) -> KrapaoSettings:
    return attrs.evolve(settings, sops=sops_path, runtime_dir=runtime)


async def test_a_plugins_identity_opens_a_file_where_the_operator_gives_plugins(
    real: KrapaoSettings, nursery: trio.Nursery, data: bytes, plugins: Path, age_pair: AgePair
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(real, age_plugins_path=str(plugins)))
    # This plugin is a script, whose interpreter a confined holder may not run; one that is a program may be.
    decrypter._measures = Measures()
    key = AgeKey(SensitiveText(f"# of the plugin\n{IDENTITY}\n{age_pair.private}"))
    assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()


async def test_without_the_operators_plugins_it_is_refused_and_none_is_run(
    real: KrapaoSettings, nursery: trio.Nursery, data: bytes
) -> None:
    decrypter = SopsDecrypter(nursery, real)
    with pytest.raises(
        JiemiError, match=r"KeyInvalid: spec\.provider\.age\.privateKey, line 1: an age plugin's identity, and"
    ):
        await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(IDENTITY)),))


async def test_a_plugin_that_can_not_be_run_leaves_the_file_closed(
    real: KrapaoSettings, nursery: trio.Nursery, data: bytes, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    decrypter = SopsDecrypter(nursery, attrs.evolve(real, age_plugins_path=str(empty)))
    with pytest.raises(JiemiError, match="KeyMissing") as caught:
        await decrypter.decrypt(data, Format.YAML, (AgeKey(SensitiveText(IDENTITY)),))
    assert f"age {RECIPIENT} (not opened by the key given)" in str(caught.value)
