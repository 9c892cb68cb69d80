"""spec.source.repository.submodules: which submodules are followed."""

from __future__ import annotations

import re

import attrs

from jiemi.core.api.fields import FieldError, api

MAX_HOSTS = 50
_HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"


@attrs.frozen
class RepositorySubmodules:
    """That submodules are followed."""

    hosts: tuple[str, ...] = api(
        "Names of hosts that submodules may be on, without a port. The repository's own host is always allowed. The "
        "credentials are only sent to that one, if the submodule's URL has the same scheme and port.",
        default=(),
        maxItems=MAX_HOSTS,
        items={"minLength": 1, "maxLength": 253, "pattern": f"^{_HOST}$"},
    )

    def __attrs_post_init__(self) -> None:
        for at, host in enumerate(self.hosts):
            if re.fullmatch(_HOST, host) is None:
                raise FieldError(
                    f"must be the name of a host, without scheme, port and path @ hosts[{at}]",
                    "Write it as in github.com.",
                )
