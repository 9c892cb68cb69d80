"""The demo's objects in the cluster: applied as a user applies them, and looked at."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import AsyncIterator

import trio
from ruamel.yaml import YAML

from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.screen import Screen
from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.errors import JiemiError
from jiemi.core.reasons import REASONS
from jiemi.demo.content import EXPECTED, KEY_NAME, KEY_SECRET, NAME, NAMESPACE, AgeKeyPair, DemoRepository, demo_file
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes

_POLL_SECONDS = 0.1
_SERVED_TIMEOUT_SECONDS = 30.0


async def apply(kubernetes: Kubernetes, manifest: JsonObject) -> None:
    """Apply a manifest, waiting until its kind is served: a new definition takes a moment.

    Raises:
        JiemiError: it can't be applied.
    """
    with trio.move_on_after(_SERVED_TIMEOUT_SECONDS):
        while True:
            with contextlib.suppress(_NotYet):
                await _try_apply(kubernetes, manifest)
                return
            await trio.sleep(_POLL_SECONDS)
    await kubernetes.objects(None).apply(manifest, default_namespace=NAMESPACE)


class _NotYet(Exception):
    pass


async def _try_apply(kubernetes: Kubernetes, manifest: JsonObject) -> None:
    try:
        await kubernetes.objects(None).apply(manifest, default_namespace=NAMESPACE)
    except JiemiError as error:
        if error.failure.reason in ("KindUnknown", "NamespaceNotFound", "ClusterUnavailable"):
            raise _NotYet(str(error)) from error
        raise


def key_secret(key: AgeKeyPair) -> JsonObject:
    """The Secret with the demo's key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEY_SECRET, "namespace": NAMESPACE},
        "stringData": {KEY_NAME: key.identity.reveal()},
    }


def demo_decryptor(repository: DemoRepository, *, interval_seconds: float | None = None) -> JsonObject:
    """The demo's Decryptor.

    Args:
        repository: what it follows.
        interval_seconds: its own interval; None: Miwen's.
    """
    text = demo_file("decryptor.yaml").replace("REPOSITORY_URL", repository.url)
    manifest: JsonObject = YAML(typ="safe").load(io.StringIO(text))
    if interval_seconds is not None:
        manifest["spec"]["interval"] = f"{interval_seconds:g}s"
    return manifest


async def until_synced(kubernetes: Kubernetes, timeout_seconds: float, screen: Screen) -> None:
    """Wait until the demo's Secret holds what is in git, and say what is in the way meanwhile.

    Raises:
        CommandError: it does not in time.
    """
    said = ""
    with trio.move_on_after(timeout_seconds):
        while True:
            if await _secret_values(kubernetes) == EXPECTED:
                return
            async for trouble in _troubles(kubernetes):
                if trouble != said:
                    screen.say(trouble)
                    said = trouble
            await trio.sleep(_POLL_SECONDS)
    raise CommandError(f"the Secret {NAMESPACE}/{NAME} did not appear within {timeout_seconds:g} s. {said}")


async def _secret_values(kubernetes: Kubernetes) -> dict[str, str] | None:
    try:
        secret = await kubernetes.get_secret(NAMESPACE, NAME)
    except JiemiError as error:
        if error.failure.reason in ("SecretNotFound", "ClusterUnavailable"):
            return None
        raise
    return {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}


async def _troubles(kubernetes: Kubernetes) -> AsyncIterator[str]:
    """What is wrong with the demo's Decryptor, as its conditions say it."""
    try:
        page = await kubernetes.list_decryptors(limit=100, continue_token=None)
    except JiemiError as error:
        yield str(error)
        return
    for obj in page.items:
        decryptor = read_decryptor(obj)
        if decryptor.meta.key != (NAMESPACE, NAME) or decryptor.status is None:
            continue
        for condition in decryptor.status.conditions:
            if condition.status != "True" and condition.reason in REASONS:
                yield f"{condition.reason}: {condition.message}"
