"""Repositories are followed by way of OpenSSH's server and git-shell."""

from __future__ import annotations

import pytest
from krapao.git.following import follow, pin
from krapao.sshd.conftest import Host
from support.krapao.work_tree import Work

from jiemi.krapao.settings import KrapaoSettings


async def test_a_repository_is_followed(host: Host, work: Work, settings: KrapaoSettings) -> None:
    await follow(settings, host.url, host.credentials, work, host.bare)
    assert "Accepted publickey for git" in host.server.log()


async def test_commits_are_pinned(host: Host, work: Work, settings: KrapaoSettings) -> None:
    await pin(settings, host.url, host.credentials, work, host.bare)


@pytest.mark.parametrize("path", ["/~/r.git", "/~git/r.git"])
async def test_paths_from_the_home_of_the_account_are_taken(
    host: Host, work: Work, settings: KrapaoSettings, path: str
) -> None:
    await follow(settings, f"ssh://git@{host.server.host}{path}", host.credentials, work, host.bare)
