"""A client of Krapao's port that says what no honest one does: the messages of the RPC one by one, as bytes.

Made with the schema of the RPC itself (rpc.capnp, which pycapnp brings) and Jiemi's. Nothing in here waits for an
answer that it did not ask for, so it can say a hundred thousand things in the time in which a real client says one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import capnp

SCHEMA = Path(__file__).parents[2] / "schema" / "krapao.capnp"
_PACKAGE = Path(capnp.__file__).parent

BOOTSTRAP = 0
"""The question that asks for the bootstrap capability, in these conversations."""

SESSION = 1
"""The question that opens the session."""


@functools.cache
def rpc() -> Any:
    """The schema of the RPC's own messages."""
    return capnp.load(str(_PACKAGE / "rpc.capnp"), imports=[str(_PACKAGE.parent)])


@functools.cache
def krapao() -> Any:
    """Jiemi's schema."""
    return capnp.SchemaParser().load(str(SCHEMA))


def bootstrap(question: int = BOOTSTRAP) -> bytes:
    message = rpc().Message.new_message()
    message.init("bootstrap").questionId = question
    return bytes(message.to_bytes())


def finish(question: int) -> bytes:
    message = rpc().Message.new_message()
    message.init("finish").questionId = question
    return bytes(message.to_bytes())


def finish_keeping(question: int) -> bytes:
    """A finish that keeps the capabilities of the answer."""
    message = rpc().Message.new_message()
    part = message.init("finish")
    part.questionId, part.releaseResultCaps = question, False
    return bytes(message.to_bytes())


def release(export: int, count: int = 1) -> bytes:
    message = rpc().Message.new_message()
    part = message.init("release")
    part.id, part.referenceCount = export, count
    return bytes(message.to_bytes())


def call(
    question: int,
    interface: str,
    method: str,
    *,
    on: int,
    field: int | None = 0,
    capabilities: int = 0,
    capability: str = "senderHosted",
    **params: Any,
) -> bytes:
    """A call of a method, pipelined on the answer to another question.

    Args:
        on: the other question.
        field: which pointer of the other's results is the capability; None where the answer itself is it (bootstrap).
        capabilities: how many capabilities are in the message's table. The first is the one of a parameter.
        capability: of which kind they are.
        params: by name, as pycapnp takes them.
    """
    schema = getattr(krapao(), interface).schema
    ordinal = [each.name for each in schema.node.interface.methods].index(method)
    found = schema.methods[method]
    message = rpc().Message.new_message()
    part = message.init("call")
    part.questionId, part.interfaceId, part.methodId = question, schema.node.id, ordinal
    answer = part.target.init("promisedAnswer")
    answer.questionId = on
    if field is not None:
        answer.init("transform", 1)[0].getPointerField = field
    payload = part.init("params")
    body = krapao_struct(found.param_type, params)
    payload.content = body
    table = payload.init("capTable", capabilities)
    for index in range(capabilities):
        if capability == "receiverAnswer":
            table[index].init("receiverAnswer").questionId = on
        else:
            setattr(table[index], capability, index)
    return bytes(message.to_bytes())


def krapao_struct(schema: Any, values: dict[str, Any]) -> Any:
    """A struct of Jiemi's schema."""
    builder = capnp._MallocMessageBuilder().init_root(schema)
    builder.from_dict(values)
    return builder


def open_session(question: int = SESSION, *, on: int = BOOTSTRAP, **params: Any) -> bytes:
    return call(question, "Krapao", "openSession", on=on, field=None, protocolVersion=1, **params)


def open_repository(question: int, url: str = "probe:", *, on: int = SESSION, **credentials: str) -> bytes:
    return call(question, "Session", "openRepository", on=on, source={"url": url}, credentials=credentials)


def head(question: int, *, on: int, max_age: float = 0) -> bytes:
    return call(question, "Repository", "head", on=on, maxAgeSeconds=max_age)


def raw(kind: str, **values: Any) -> bytes:
    """A message of any kind."""
    message = rpc().Message.new_message()
    part = message.init(kind)
    part.from_dict(values)
    return bytes(message.to_bytes())
