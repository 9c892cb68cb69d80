"""A source and credentials come out of a message as they went in, and are bound as a Decryptor's are."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from rpc.codec.messages import CREDENTIALS, SCHEMA, SOURCES, through
from rpc.hostile_peer import krapao_struct
from rpc.rpc_helpers import credential_path

from jiemi.core.credential_limits import limit_bytes
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc import codec
from jiemi.rpc.source import MAX_SUBMODULE_HOSTS, GitCredentials, Source, Submodules


@given(SOURCES)
def test_a_source_comes_back(source: Source) -> None:
    assert through("Source", lambda b: codec.write_source(b, source), codec.read_source) == source


@given(CREDENTIALS)
def test_credentials_come_back_and_none_is_not_empty_text(credentials: GitCredentials) -> None:
    back = through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)
    assert back == credentials


def test_text_that_is_not_unicode_is_refused_without_being_quoted() -> None:
    credentials = GitCredentials(token=SensitiveText("canary\ud800"))
    with pytest.raises(JiemiError, match="InvalidSpec: token holds") as caught:
        codec.write_credentials(SCHEMA.GitCredentials.new_message(), credentials)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize("field", [each.name for each in attrs.fields(GitCredentials)])
def test_a_credential_of_a_stranger_is_bound_as_one_of_a_decryptor_is(field: str) -> None:
    path = credential_path(field)
    for size, is_refused in ((limit_bytes(path), False), (limit_bytes(path) + 1, True)):
        credentials = GitCredentials(**{field: SensitiveText("x" * size)})
        try:
            back = through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)  # noqa: B023
        except JiemiError as error:
            assert is_refused
            assert error.failure.reason == "CredentialTooLarge"
            assert path in error.failure.text
            assert "xxx" not in error.failure.text
        else:
            assert not is_refused
            assert back == credentials


@given(CREDENTIALS)
def test_only_credentials_that_an_older_krapao_would_ignore_need_the_newer_method(credentials: GitCredentials) -> None:
    opening = codec.Opening(Source("https://git.example/r"), credentials, "team")
    newer = {each.name for each in attrs.fields(GitCredentials)} - {"username", "token", "ssh", "known_hosts"}
    assert len(opening.required) == sum(getattr(credentials, name) is not None for name in newer)
    assert opening.method == ("openRepositoryRequiring" if opening.required else "openRepository")
    request = krapao_struct(SCHEMA.Session.schema.methods[opening.method].param_type, {})
    codec.write_opening(request, opening)
    assert codec.read_opening(request.as_reader(), requiring=bool(opening.required)) == opening


@pytest.mark.parametrize("hosts", [(), ("github.com", "git.example")])
def test_submodules_need_the_newer_method_because_an_older_krapao_would_leave_files_out(hosts: tuple[str, ...]) -> None:
    opening = codec.Opening(Source("https://git.example/r", submodules=Submodules(hosts)), GitCredentials(), "team")
    assert (opening.method, opening.required) == ("openRepositoryRequiring", ("submodules",))
    request = krapao_struct(SCHEMA.Session.schema.methods[opening.method].param_type, {})
    codec.write_opening(request, opening)
    assert codec.read_opening(request.as_reader(), requiring=True) == opening
    message = codec.too_old(opening.required).failure.message
    assert message.endswith("does not know spec.source.repository.submodules")


def test_more_hosts_of_submodules_than_the_bound_are_refused() -> None:
    hosts = [f"h{number}" for number in range(MAX_SUBMODULE_HOSTS + 1)]
    request = krapao_struct(SCHEMA.Source.schema, {"url": "https://git.example/r", "submodules": {"hosts": hosts}})
    with pytest.raises(JiemiError) as caught:
        codec.read_source(request.as_reader())
    assert caught.value.failure.reason == "LimitExceeded"


def test_a_credential_that_this_krapao_does_not_know_is_refused_by_its_name() -> None:
    params = {"source": {"url": "https://git.example/r"}, "required": ["bearer", "newer"]}
    request = krapao_struct(SCHEMA.Session.schema.methods["openRepositoryRequiring"].param_type, params)
    with pytest.raises(JiemiError) as caught:
        codec.read_opening(request.as_reader(), requiring=True)
    assert caught.value.failure.reason == "ProviderNotSupportedYet"
    assert caught.value.failure.message.endswith("does not know spec.source.repository.credentials.newer")


def test_a_krapao_that_knows_no_github_apps_is_refused_by_that_name() -> None:
    credentials = GitCredentials(github_app_id=SensitiveText("1"), github_app_private_key=SensitiveText("canary"))
    opening = codec.Opening(Source("https://git.example/r"), credentials, "team")
    assert opening.method == "openRepositoryRequiring"
    at = "spec.source.repository.credentials.githubApp"
    assert codec.too_old(opening.required).failure.message.endswith(f"{at}.appId, {at}.privateKey")


def test_equal_credentials_of_two_clients_are_held_once() -> None:
    def read() -> GitCredentials:
        credentials = GitCredentials(ssh=SensitiveText("key" * 10))
        return through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)

    assert read().ssh is not None
    first, second = read(), read()
    assert first.ssh is second.ssh
