"""A source and credentials come out of a message as they went in, and are bound as a Decryptor's are."""

from __future__ import annotations

import pytest
from hypothesis import given
from rpc.codec.messages import CREDENTIALS, SCHEMA, SOURCES, through

from jiemi.core.credential_limits import limit_bytes
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc import codec
from jiemi.rpc.contract import (
    GitCredentials,
    Source,
)


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


@pytest.mark.parametrize("field", ["username", "token", "ssh", "known_hosts"])
def test_a_credential_of_a_stranger_is_bound_as_one_of_a_decryptor_is(field: str) -> None:
    path = f"spec.source.repository.credentials.{'knownHosts' if field == 'known_hosts' else field}"
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


def test_equal_credentials_of_two_clients_are_held_once() -> None:
    def read() -> GitCredentials:
        credentials = GitCredentials(ssh=SensitiveText("key" * 10))
        return through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)

    assert read().ssh is not None
    first, second = read(), read()
    assert first.ssh is second.ssh
