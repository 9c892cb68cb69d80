"""spec.source.repository.proxy: the proxy on the way to the repository's host."""

from __future__ import annotations

from typing import ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api, contradiction, given
from jiemi.core.api.provider import CredentialValue

_ONE = "give either url or secretName"
_PAIR = "give username together with password, or neither"


@attrs.frozen
class RepositoryProxy:
    """A proxy."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(f"{given('url')} != {given('secretName')}", _ONE),
        Rule(f"{given('username')} == {given('password')}", _PAIR),
        contradiction("secretName", "username"),
    )

    url: str | None = api(
        "Address of the proxy: http://, https:// or socks5:// with a host and a port. It must not contain a password. "
        "One with https:// is for repositories over https and http alone.",
        default=None,
        nullable=True,
        maxLength=2048,
    )
    username: CredentialValue | None = api("User name for the proxy.", default=None, nullable=True)
    password: CredentialValue | None = api("Password for the proxy.", default=None, nullable=True)
    secret_name: str | None = api(
        "Name of a Secret in the Decryptor's namespace with the keys address, username and password, in Flux's form, "
        "instead of single values.",
        default=None,
        nullable=True,
        maxLength=253,
    )

    def __attrs_post_init__(self) -> None:
        if (self.url is None) == (self.secret_name is None):
            raise FieldError(_ONE)
        if (self.username is None) != (self.password is None):
            raise FieldError(_PAIR)
        if self.secret_name is not None and self.username is not None:
            raise FieldError("secretName contradicts username: give one or the other")
