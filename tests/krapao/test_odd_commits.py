"""Tips that git serves and shows, though they are not as git itself writes a commit, a tag or a tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.krapao.work_tree import Work

from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

AT = "a <a@example.com>"
PERSON = f"{AT} 1700000000"
AUTHOR, COMMITTER = f"author {PERSON} +0000\n", f"committer {PERSON} +0000\n"
COMMITS = {
    "a zone without a sign": f"author {PERSON} 0100\ncommitter {PERSON} 0100\n\nm\n",
    "no zone": f"author {PERSON}\ncommitter {PERSON}\n\nm\n",
    "no time": "author a <a@example.com>\ncommitter a <a@example.com>\n\nm\n",
    "a zone of letters": f"author {PERSON} CEST\ncommitter {PERSON} +01:00\n\nm\n",
    "a large zone": f"author {PERSON} +051800\ncommitter {PERSON} --700\n\nm\n",
    "a time before 1970": "author a <a@example.com> -5 +0000\ncommitter a <a@example.com> -5 +0000\n\nm\n",
    "a time beyond 64 bits": f"author {AT} {2**70} +0000\ncommitter {AT} {2**70} +0000\n\nm\n",
    "a header without a value": f"author {PERSON} +0000\ncommitter {PERSON} +0000\nencoding\n\nm\n",
    "an empty header": f"author {PERSON} +0000\ncommitter {PERSON} +0000\nx \n\nm\n",
    "no brackets": "author a 1700000000 +0000\ncommitter a 1700000000 +0000\n\nm\n",
    "two brackets": f"author a <<a@b>> 1700000000 +0000\ncommitter {PERSON} +0000\n\nm\n",
    "no author": f"committer {PERSON} +0000\n\nm\n",
    "no committer": f"author {PERSON} +0000\n\nm\n",
    "nothing else": "\n",
    "no message": f"author {PERSON} +0000\ncommitter {PERSON} +0000\n",
    "no line's end": f"author {PERSON} +0000\ncommitter {PERSON} +0000",
    "an encoding that is none": f"author {PERSON} +0000\ncommitter {PERSON} +0000\nencoding klingon\n\n\xff\n",
    "a NUL": f"author {PERSON} +0000\ncommitter {PERSON} +0000\n\na\0b\n",
    "a damaged merge tag": f"author {PERSON} +0000\ncommitter {PERSON} +0000\nmergetag object x\n type\n\nm\n",
    "a continued line first": f"author {PERSON} +0000\n more\ncommitter {PERSON} +0000\n\nm\n",
    "headers twice": f"{AUTHOR}{AUTHOR}{COMMITTER}{COMMITTER}\nm\n",
}


def _git(repository: Path, *arguments: str, data: bytes = b"") -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], input=data, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("is_second", [False, True])
@pytest.mark.parametrize("name", COMMITS)
async def test_a_tip_that_git_serves_is_followed(
    name: str, is_second: bool, git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    bare = git_server.root / "r.git"
    first = work.commit({"a.yaml": "first"})
    work.push(bare)
    tree = work.commit({"a.yaml": "odd"})
    work.push(bare)
    tree = _git(bare, "rev-parse", f"{tree}^{{tree}}")
    parent = f"parent {first}\n" if is_second else ""
    content = f"tree {tree}\n{parent}{COMMITS[name]}".encode("latin-1")
    odd = _git(bare, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", data=content)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), GitCredentials()) as store:
        if is_second:
            _git(bare, "update-ref", "refs/heads/main", first)
            await store.fetch(await store.advertised(Ref()))
        _git(bare, "update-ref", "refs/heads/main", odd)
        tip = await store.advertised(Ref())
        assert tip.revision == odd
        await store.fetch(tip)
        assert await store.read(odd, "a.yaml", max_bytes=10) == b"odd"


TAGS = {
    "a zone without a sign": "object {commit}\ntype commit\ntag t\ntagger a <a@example.com> 1 0100\n\nm\n",
    "no tagger": "object {commit}\ntype commit\ntag t\n\nm\n",
    "no message": "object {commit}\ntype commit\ntag t\ntagger a <a@example.com> 1 +0000\n",
}


@pytest.mark.parametrize("name", TAGS)
async def test_a_tag_that_git_serves_is_followed(
    name: str, git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    bare = git_server.root / "r.git"
    commit = work.commit({"a.yaml": "tagged"})
    work.push(bare)
    content = TAGS[name].format(commit=commit).encode()
    tag = _git(bare, "hash-object", "-t", "tag", "-w", "--stdin", "--literally", data=content)
    nested = f"object {tag}\ntype tag\ntag u\ntagger a <a@example.com> 1 +0000\n\nm\n".encode()
    _git(bare, "update-ref", "refs/tags/t", tag)
    _git(bare, "update-ref", "refs/tags/u", _git(bare, "hash-object", "-t", "tag", "-w", "--stdin", data=nested))
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), GitCredentials()) as store:
        for ref in (Ref(tag="t"), Ref(tag="u")):
            tip = await store.advertised(ref)
            assert tip.revision == commit
            await store.fetch(tip)
            assert await store.read(commit, "a.yaml", max_bytes=10) == b"tagged"


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"), [("100664", "40000"), ("100755", "040000"), ("0100644", "40755")]
)
async def test_a_tree_with_the_modes_of_older_tools_is_read(
    file_mode: str, folder_mode: str, git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    bare = git_server.root / "r.git"
    work.commit({"a.yaml": "first"})
    work.push(bare)

    def tree(mode: str, name: str, of: str) -> str:
        entry = f"{mode} {name}".encode() + b"\0" + bytes.fromhex(of)
        return _git(bare, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", data=entry)

    inner = tree(file_mode, "a.yaml", _git(bare, "hash-object", "-w", "--stdin", data=b"odd"))
    content = f"tree {tree(folder_mode, 'd', inner)}\n{AUTHOR}{COMMITTER}\nm\n".encode()
    odd = _git(bare, "hash-object", "-t", "commit", "-w", "--stdin", data=content)
    _git(bare, "update-ref", "refs/heads/main", odd)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), GitCredentials()) as store:
        tip = await store.advertised(Ref())
        await store.fetch(tip)
        assert await store.read(odd, "d/a.yaml", max_bytes=10) == b"odd"
