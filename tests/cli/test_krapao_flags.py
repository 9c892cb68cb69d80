"""Flags of `jiemi krapao` that name a place or a pattern: one that means nothing keeps Krapao from starting."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from jiemi.cli.main import app
from jiemi.krapao.git.known_hosts import may_be_known_hosts
from jiemi.krapao.network.proxy import Proxy, may_be_direct

AMBIENT = ("--allow-ambient-identity", "aws", "--ambient-key", "aws=**")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--runtime-dir", "/nowhere"), "--runtime-dir /nowhere is no folder"),
        (("--runtime-dir", "{folder}/file"), "file is no folder"),
        (("--age-plugins", "/nowhere"), "--age-plugins: '/nowhere' is no folder"),
        (("--age-plugins", "plugins"), "--age-plugins: 'plugins' is no folder"),
        (("--age-plugins", "{folder}:"), "--age-plugins: '' is no folder"),
        (("--ssh-known-hosts", "{folder}/file"), "no line of it is one of a known_hosts file"),
        ((*AMBIENT, "--ambient-repository", ""), "--ambient-repository: an empty pattern"),
        (
            (*AMBIENT, "--ambient-repository", "https://a/b", "--ambient-repository", " "),
            "--ambient-repository: an empty",
        ),
        (("--http-proxy", "http://p:1", "--no-proxy", "a.example,10.0.0.0/99"), "--no-proxy: '10.0.0.0/99' is no host"),
        (("--http-proxy", "http://p:1", "--git-proxy", "http://p:1"), "--http-proxy and --git-proxy: give only one"),
        (("--git-proxy", "https://p:1"), "--git-proxy: ssh needs a proxy with http:// or socks5://"),
        (("--git-proxy", "socks5://canary:canary@p:1"), "--git-proxy: it holds a user name or password"),
        (("--git-proxy-file", "{folder}/file"), "--git-proxy-file: it is no http://, https:// or socks5:// URL"),
        (("--no-proxy", "a.example"), "--no-proxy needs --http-proxy, --git-proxy or the file of one"),
        (("--http-proxy", "http://p:1", "--no-proxy", "*"), "--no-proxy: '*' is no host"),
        (("--http-proxy", "http://p:1", "--no-proxy", "http://a.example"), "--no-proxy: 'http://a.example' is no host"),
        (("--http-proxy", "http://p:1", "--no-proxy", "git.example:8443"), "--no-proxy: 'git.example:8443' is no host"),
    ],
)
def test_what_means_nothing_is_named_with_its_flag(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    (tmp_path / "file").write_text("github.com\n")
    filled = [each.replace("{folder}", str(tmp_path)) for each in flags]
    where = ["--state-dir", str(tmp_path / "state"), "--listen", f"unix:{tmp_path}/socket"]
    found = CliRunner().invoke(app, ["krapao", *where, *filled])
    assert found.exit_code == 1
    assert message in " ".join(found.output.split())
    assert not (tmp_path / "state").exists(), "nothing was begun"


def test_the_known_hosts_that_are_shipped_are_taken() -> None:
    shipped = YAML(typ="safe").load((Path(__file__).parents[2] / "deploy" / "known-hosts.yaml").read_text())
    assert all(map(may_be_known_hosts, shipped["data"].values()))


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("svc.cluster.local", "git.svc.cluster.local"),
        (".example.com", "a.example.com"),
        ("*.example.com", "a.example.com"),
        ("example.com.", "example.com"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.1/8", "10.1.2.3"),
        ("192.0.2.1", "192.0.2.1"),
        ("fd00::/8", "fd00::1"),
        ("my_host", "my_host"),
    ],
)
def test_what_names_hosts_that_need_no_proxy_is_taken(pattern: str, host: str) -> None:
    assert may_be_direct(pattern)
    assert not Proxy("http", "p", 1, direct=(pattern,)).is_for(host)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("", True),
        ("# none yet\n\n", True),
        ("git.example ssh-ed25519 AAAA\n", True),
        ("garbage\ngit.example ssh-ed25519 AAAA comment\n", True),
        ("|1|AAAA|AAAA ssh-ed25519 AAAA\n", True),
        ("git.example\n", False),
        ("git.example ssh-ed25519 no-base64!\n", False),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", False),
    ],
)
def test_a_file_of_which_no_line_can_be_read_is_no_known_hosts_file(text: str, taken: bool) -> None:
    assert may_be_known_hosts(text) is taken
