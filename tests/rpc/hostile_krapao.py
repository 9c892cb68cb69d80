"""A Krapao that answers `verify` and `changes` as none does: `python -m rpc.hostile_krapao SOCKET`.

In a process of its own, because pycapnp crashes when a process loads the same types from two files: this schema is that
of a release with members and enumerants that today's does not have. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import capnp

REVISION = "a" * 40
NO_TEXT = b"\xff\xfe\x00\x01"
CANARY = "canary-of-a-hostile-krapao"
MEBIBYTE = 1024 * 1024

Fill = Callable[[Any], object]


def _verified(fill: Fill) -> Fill:
    def make(result: Any) -> None:
        verified = result.init("verified")
        verified.revision = REVISION
        fill(verified)

    return make


def _failed(reason: object = "SignerUnknown", message: object = "x", retry: object = None) -> Fill:
    def make(result: Any) -> None:
        failure = result.init("failure")
        failure.reason, failure.message = reason, message
        if retry is not None:
            failure.retry = retry

    return make


def _texts(field: str, *values: object) -> Fill:
    def make(result: Any) -> None:
        texts = result.init("changes").init(field, len(values))
        for index, value in enumerate(values):
            texts[index] = value

    return make


def _later(result: Any) -> None:
    result.later = "x"


def _raise(_: Any) -> None:
    raise RuntimeError(CANARY)


def _signer(**fields: object) -> Fill:
    def fill(verified: Any) -> None:
        signer = verified.init("commit")
        for name, value in fields.items():
            setattr(signer, name, value)

    return _verified(fill)


COMMON: dict[str, tuple[Fill, str, str]] = {
    "later_member": (_later, "InternalError", "does not know; upgrade Miwen"),
    "failure_unknown": (_failed("NobodyKnows"), "InternalError", "Krapao reported NobodyKnows"),
    "failure_no_reason": (_failed("x\n\x1b[31m"), "InternalError", "a reason without a name"),
    "failure_not_utf8": (_failed(NO_TEXT), "InvalidSpec", "reason came as text that is not UTF-8"),
    "failure_message_not_utf8": (_failed(message=NO_TEXT), "InvalidSpec", "message came as text that is not UTF-8"),
    "failure_huge": (_failed(message="x" * MEBIBYTE), "LimitExceeded", "message is longer"),
    "failure_later_retry": (_failed(retry="never"), "SignerUnknown", "x"),
    "failure_empty": (lambda result: result.init("failure"), "InternalError", "a reason without a name"),
    "raises": (_raise, "InternalError", ""),
}
"""What is answered, and the reason and the words of what the client makes of it."""

VERIFY: dict[str, tuple[Fill, str, str]] = {
    **COMMON,
    "nothing": (lambda _: None, "InternalError", "no full commit hash"),
    "no_revision": (_verified(lambda verified: setattr(verified, "revision", "main")), "InternalError", "no full"),
    "revision_not_utf8": (_verified(lambda v: setattr(v, "revision", NO_TEXT)), "InvalidSpec", "revision came as"),
    "ref_not_utf8": (_verified(lambda v: setattr(v, "ref", NO_TEXT)), "InvalidSpec", "ref came as"),
    "ref_huge": (_verified(lambda v: setattr(v, "ref", "x" * MEBIBYTE)), "LimitExceeded", "ref is longer"),
    "signer_not_utf8": (_signer(name=NO_TEXT), "InvalidSpec", "name came as"),
    "signer_huge": (_signer(name="ann", key="x" * MEBIBYTE), "LimitExceeded", "key is longer"),
    "signer_larger_than_a_message": (_signer(name="x" * 40 * MEBIBYTE), "KrapaoUnavailable", ""),
}

CHANGES: dict[str, tuple[Fill, str, str]] = {
    **COMMON,
    "no_folder": (_texts("folders", "apps"), "InternalError", "a folder that is none"),
    "no_folder_last": (_texts("folders", "a/", "", "b/c"), "InternalError", "a folder that is none"),
    "paths_not_utf8": (_texts("paths", "a", NO_TEXT), "InvalidSpec", "paths came as"),
    "folders_not_utf8": (_texts("folders", NO_TEXT), "InvalidSpec", "folders came as"),
    "paths_many": (_texts("paths", *["a"] * 1_001), "LimitExceeded", "paths has 1001 elements"),
    "paths_a_million": (lambda r: r.init("changes").init("paths", 1_000_000), "LimitExceeded", "1000000 elements"),
    "folders_a_million": (lambda r: r.init("changes").init("folders", 1_000_000), "LimitExceeded", "1000000 elements"),
    "paths_larger_than_a_message": (_texts("paths", "x" * 40 * MEBIBYTE), "KrapaoUnavailable", ""),
}


def load(folder: Path) -> Any:
    """Today's schema with a member more in each result, and an enumerant more."""
    text = (Path(__file__).parents[2] / "schema" / "krapao.capnp").read_text()
    for name in ("VerifyResult", "ChangesResult"):
        begin = text.index(f"struct {name} {{")
        end = text.index("failure @1 :Failure;", begin)
        text = f"{text[:end]}failure @1 :Failure; later @2 :Text;{text[end + len('failure @1 :Failure;') :]}"
    last = re.findall(r"@(\d+);", text.partition("enum RetryKind {")[2].partition("}")[0])
    text = text.replace("enum RetryKind {", f"enum RetryKind {{ never @{len(last)};", 1)
    path = folder / "hostile.capnp"
    path.write_text(text)
    return capnp.load(str(path))


def servers(schema: Any) -> Any:
    """What the bootstrap capability is. The path, or the number of the second revision, says what is answered."""

    class Repository(schema.Repository.Server):  # type: ignore[misc] # of a schema that is read at run time
        async def verify_context(self, context: Any) -> None:
            VERIFY[context.params.request.patterns[0]][0](context.results.init("result"))

        async def changes_context(self, context: Any) -> None:
            number = int(context.params.request.after, 16)
            list(CHANGES.values())[number][0](context.results.init("result"))

    class Session(schema.Session.Server):  # type: ignore[misc] # likewise
        async def openRepository_context(self, context: Any) -> None:  # noqa: N802  the schema's name
            context.results.repository = Repository()

    class Krapao(schema.Krapao.Server):  # type: ignore[misc] # likewise
        async def openSession_context(self, context: Any) -> None:  # noqa: N802  the schema's name
            context.results.protocolVersion = schema.protocolVersion
            context.results.session = Session()

    return Krapao


async def serve(schema: Any, socket: Path) -> None:
    """Until the standard input ends, so it has no deadline of its own."""
    made = servers(schema)

    async def connected(stream: Any) -> None:
        await capnp.TwoPartyServer(stream, bootstrap=made()).on_disconnect()

    server = await capnp.AsyncIoStream.create_unix_server(connected, str(socket))
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(capnp.run(serve(load(Path(folder)), Path(sys.argv[1]))))
