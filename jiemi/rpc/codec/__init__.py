"""The contract's values to and from Cap'n Proto messages.

There is one module per call of the contract: `session`, `source` (opening a repository), `head`, `files`, `changes`,
`render` with its `keys`, `trace` and `failures`; each is written and read in the same module, over the single fields
of `fields`.

The readers and builders are pycapnp's, used by their attributes only: nothing here imports it. Callers are in the
bridge's thread, and only the frozen values leave it. Each field is read once, because a reader counts what it
traverses against its message's limit.

A peer may be newer or damaged: an unknown member of a union, an unknown reason or a value out of its range becomes a
typed failure here, and nothing is trusted that the types inside rely on.
"""

from __future__ import annotations

from jiemi.rpc.codec.changes import (
    changes_bytes,
    read_changes_request,
    read_changes_result,
    write_changes_request,
    write_changes_result,
)
from jiemi.rpc.codec.failures import read_failure, write_failure
from jiemi.rpc.codec.files import (
    files_bytes,
    files_request_bytes,
    read_files_request,
    read_files_result,
    write_files_request,
    write_files_result,
)
from jiemi.rpc.codec.head import (
    read_head,
    read_head_result,
    read_max_age,
    write_head,
    write_head_result,
    write_max_age,
)
from jiemi.rpc.codec.render import (
    MAX_MESSAGE_BYTES,
    MAX_NESTED_PLACES,
    MAX_RENDERED_MESSAGE_BYTES,
    read_render_request,
    read_render_result,
    rendered_bytes,
    request_bytes,
    write_render_request,
    write_render_result,
)
from jiemi.rpc.codec.session import (
    PROTOCOL_VERSION,
    read_secret,
    read_session_checked,
    write_session,
    write_session_request,
)
from jiemi.rpc.codec.source import (
    Opening,
    credentials_bytes,
    read_credentials,
    read_opening,
    read_source,
    read_tenant,
    source_bytes,
    too_old,
    write_credentials,
    write_opening,
    write_source,
    write_tenant,
)
from jiemi.rpc.codec.trace import read_trace, write_trace
from jiemi.rpc.codec.verification import read_verify_result, write_verify_result

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_NESTED_PLACES",
    "MAX_RENDERED_MESSAGE_BYTES",
    "PROTOCOL_VERSION",
    "Opening",
    "changes_bytes",
    "credentials_bytes",
    "files_bytes",
    "files_request_bytes",
    "read_changes_request",
    "read_changes_result",
    "read_credentials",
    "read_failure",
    "read_files_request",
    "read_files_result",
    "read_head",
    "read_head_result",
    "read_max_age",
    "read_opening",
    "read_render_request",
    "read_render_result",
    "read_secret",
    "read_session_checked",
    "read_source",
    "read_tenant",
    "read_trace",
    "read_verify_result",
    "rendered_bytes",
    "request_bytes",
    "source_bytes",
    "too_old",
    "write_changes_request",
    "write_changes_result",
    "write_credentials",
    "write_failure",
    "write_files_request",
    "write_files_result",
    "write_head",
    "write_head_result",
    "write_max_age",
    "write_opening",
    "write_render_request",
    "write_render_result",
    "write_session",
    "write_session_request",
    "write_source",
    "write_tenant",
    "write_trace",
    "write_verify_result",
]
