"""Keys of a request are bound as a Decryptor's are."""

from __future__ import annotations

import pytest
from rpc.codec.messages import through

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc import codec
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.keys import AgeKey, DecryptionKey, GcpKey, PgpKey, VaultKey


@pytest.mark.parametrize(
    "key",
    [
        AgeKey(SensitiveText("x" * 200_000)),
        PgpKey(SensitiveText("x" * 600_000)),
        PgpKey(SensitiveText("x"), SensitiveText("y" * 70_000)),
        GcpKey(service_account=SensitiveText("x" * 70_000)),
        VaultKey(ca_bundle=SensitiveText("x" * 600_000)),
        VaultKey(token=SensitiveText("\U0001f511" * 20_000)),
    ],
    ids=lambda key: key.provider,
)
def test_a_key_of_a_stranger_is_bound_as_one_of_a_decryptor_is(key: DecryptionKey) -> None:
    request = RenderRequest(revision="a" * 40, path="f", sops_path=None, keys=(key,))
    with pytest.raises(JiemiError, match="CredentialTooLarge"):
        through("RenderRequest", lambda b: codec.write_render_request(b, request), codec.read_render_request)


def test_keys_that_are_too_large_together_are_refused() -> None:
    keys = tuple(AgeKey(SensitiveText("x" * 100_000)) for _ in range(11))
    request = RenderRequest(revision="a" * 40, path="f", sops_path=None, keys=keys)
    with pytest.raises(JiemiError, match="CredentialTooLarge"):
        through("RenderRequest", lambda b: codec.write_render_request(b, request), codec.read_render_request)
