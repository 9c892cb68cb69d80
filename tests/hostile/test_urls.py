"""Each address, ref and credential gets what its row says; nothing on loopback hears of it, and no program runs."""

from __future__ import annotations

import socket
from pathlib import Path

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hostile.cases_urls import ADDRESSES, DETOURS, REFS, URLS, UrlCase
from hostile.followed import Followed
from hostile.lab import Lab
from hostile.left import Before, contents, require_no_canary, told
from structlog.testing import capture_logs
from support.krapao.ssh_keys import made, written
from support.network.changed_answers import Answer, between
from support.network.listening import listening

from jiemi.core.address_rules import AddressRules, read_network
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest, Repository
from jiemi.rpc.source import GitCredentials, Source

GOOD_HOST = "127.0.0.9"
SSH = GitCredentials(
    ssh=SensitiveText(written(made("ed25519"), PrivateFormat.OpenSSH)),
    known_hosts=SensitiveText("x ssh-ed25519 AAAA"),
)


@pytest.mark.parametrize("case", [*URLS, *ADDRESSES, *DETOURS, *REFS], ids=lambda case: case.name)
async def test_an_address_a_ref_or_a_credential_gets_what_its_row_says(
    case: UrlCase,
    lab: Lab,
    settings: KrapaoSettings,
    server: GitServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location = ""

    def change(path: str, answer: Answer) -> Answer:
        return Answer(302, {"Location": location}, b"") if path.startswith("/moved/") else answer

    strict = attrs.evolve(settings, addresses=AddressRules(allowed=(read_network(f"{GOOD_HOST}/32"),)))
    before = Before.now()
    errors: list[JiemiError] = []
    with (
        capture_logs() as logs,
        trio.fail_after(60),
        listening() as (port, came),
        listening(host="::1") as (port6, came6),
        between(server, change, host=GOOD_HOST) as good,
    ):
        followed = attrs.evolve(Followed.on(server, lab), address=good)
        places = {"port": port, "port6": port6, "good": good, "host": GOOD_HOST}
        location = "" if case.location is None else case.location.format(**places)
        async with (
            open_service(strict) as krapao,
            krapao.open(Source(f"{good}/r.git", branch="main"), followed.credentials) as own,
        ):
            await own.head(max_age_seconds=0)
            await followed.require_good(own, followed.good)
            for scheme in case.schemes:
                given = SSH if scheme == "ssh" else followed.credentials
                source = Source(case.url.format(scheme=scheme, **places), **case.ref)
                async with krapao.open(source, case.credentials(given, port)) as repository:
                    with monkeypatch.context() as patched:
                        if case.resolves:
                            patched.setattr(socket, "getaddrinfo", _resolving(case.resolves))
                        with pytest.raises(JiemiError) as caught:
                            await _listed(repository)
                errors.append(caught.value)
            await followed.require_good(own, followed.good)
            await followed.require_next_served(krapao)
    await before.require_again()
    assert (came, came6) == ([], [])
    for error in errors:
        assert (error.failure.reason, case.says in error.failure.text) == (case.gets, True), str(error)
        assert error.failure.text.isprintable()
        assert not any(address in error.failure.text for address in case.resolves)
    assert b"ran" not in list(contents(tmp_path))  # no file has that name
    require_no_canary(lab, "an error", [told(error).encode("utf-8", "replace") for error in errors])
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path))


async def _listed(repository: Repository) -> None:
    head = await repository.head(max_age_seconds=0)
    await repository.files(FilesRequest(head.revision, ("**",)))


def _resolving(addresses: tuple[str, ...]) -> object:
    families = {True: socket.AF_INET6, False: socket.AF_INET}

    def look_up(host: str, port: int, *_: object, **__: object) -> list[object]:
        return [(families[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    return look_up
