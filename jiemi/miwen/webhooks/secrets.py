"""The webhooks that Secrets declare (`jiemi.core.webhooks.webhook`), kept in memory.

A watch of the metadata of the Secrets with the label says which there are; each that changed is read. So no request of
a stranger makes Miwen ask the API server, and a secret that is taken away is no longer taken within the second.

There are bounds on how many a namespace may have, and all: who may write Secrets can't fill Miwen's memory with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager

import attrs
import structlog
import trio

from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.names import NamespacedName
from jiemi.core.webhooks.webhook import LABEL, Webhook, WebhookUnusable, read_webhook
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes, Page
from jiemi.miwen.kubernetes.watch_counts import WatchCounts
from jiemi.miwen.watch.reflector import reflect

MAX_OF_A_NAMESPACE = 64
MAX_ALL = 2_000
MAX_UNUSABLE = 256
"""Those that are reported; of more, the log has them."""

_AGAIN_SECONDS = 5.0
_TOO_MANY = (
    f"a namespace may have {MAX_OF_A_NAMESPACE} webhooks, and all together {MAX_ALL}: there is no room for this one"
)
_SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)

_log = structlog.get_logger("jiemi.miwen.webhooks")


@attrs.frozen
class Unusable:
    """A Secret that declares no webhook that can be used.

    Attributes:
        message: what is wrong; holds no value of it.
        uid: of the Secret.
        resource_version: in which it was read; "" where it was not.
    """

    message: str
    uid: str
    resource_version: str = ""


class WebhookSecrets:
    """Those that there are.

    Args:
        kubernetes: the cluster that is read.
        random: gives a number in [0, 1), for jitter.
        counts: how the watch fares.
    """

    def __init__(
        self, kubernetes: Kubernetes, *, random: Callable[[], float], counts: WatchCounts | None = None
    ) -> None:
        self._kubernetes = kubernetes
        self._random = random
        self._counts = counts if counts is not None else WatchCounts()
        self._webhooks: dict[NamespacedName, Webhook] = {}
        self._known: dict[NamespacedName, None] = {}
        self._of: Counter[str] = Counter()
        self._unusable: dict[NamespacedName, Unusable] = {}
        self._unusable_news = trio.Event()
        self._changed: dict[NamespacedName, None] = {}
        self._news = trio.Event()

    @property
    def unusable(self) -> Mapping[NamespacedName, Unusable]:
        """Those that can't be used, as far as there is room for them."""
        return self._unusable

    async def unusable_changed(self) -> None:
        """Wait until there is one more, or another reason, or one less."""
        await self._unusable_news.wait()

    @property
    def webhooks(self) -> Mapping[NamespacedName, Webhook]:
        """All that can be used."""
        return self._webhooks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow them until cancelled. It counts as started at once: where Secrets can't be listed, none are known."""
        async with trio.open_nursery() as nursery:
            for namespace in self._kubernetes.scopes:
                nursery.start_soon(self._follow, namespace)
            nursery.start_soon(self._read_all)
            task_status.started()

    async def _follow(self, namespace: str | None) -> None:
        await reflect(
            _Secrets(self._kubernetes, namespace),
            _Sink(self, namespace),
            name="webhooks",
            retry_seconds=lambda failures: watch_retry_seconds(failures, random=self._random()),
            counts=self._counts,
        )

    # --- what the watch reports

    def put(self, key: NamespacedName, uid: str = "") -> None:
        """A Secret with the label is there, new or changed."""
        if key not in self._known:
            if self._of[key[0]] >= MAX_OF_A_NAMESPACE or len(self._known) >= MAX_ALL:
                _log.warning("webhook_too_many", namespace=key[0], secret=key[1])
                self._complain(key, _TOO_MANY, uid)
                return
            self._known[key] = None
            self._of[key[0]] += 1
        self._changed[key] = None
        self._news.set()

    def remove(self, key: NamespacedName) -> None:
        """It is gone, or lost the label."""
        if key in self._known:
            del self._known[key]
            self._of[key[0]] -= 1
        self._changed.pop(key, None)
        self._is_usable(key)
        if self._webhooks.pop(key, None) is not None:
            _log.info("webhook_gone", namespace=key[0], secret=key[1])

    def keep_only(self, keys: AbstractSet[NamespacedName], namespace: str | None) -> None:
        """A whole list was read.

        Args:
            namespace: the one that was listed; None: all.
        """
        for key in [key for key in {*self._known, *self._unusable} if key not in keys and namespace in (None, key[0])]:
            self.remove(key)

    # --- what can't be used

    def _complain(self, key: NamespacedName, message: str, uid: str, resource_version: str = "") -> None:
        found = Unusable(message, uid, resource_version)
        if self._unusable.get(key) == found or (key not in self._unusable and len(self._unusable) >= MAX_UNUSABLE):
            return
        self._unusable[key] = found
        self._notify()

    def _is_usable(self, key: NamespacedName) -> None:
        if self._unusable.pop(key, None) is not None:
            self._notify()

    def _notify(self) -> None:
        news, self._unusable_news = self._unusable_news, trio.Event()
        news.set()

    # --- reading

    async def _read_all(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            changed, self._changed = self._changed, {}
            unread = [key for key in changed if not await self._read(key)]
            if unread:
                await trio.sleep(_AGAIN_SECONDS)
                for key in unread:
                    if key in self._known:
                        self.put(key)

    async def _read(self, key: NamespacedName) -> bool:
        """Take what a Secret declares now. Returns whether it was read."""
        namespace, name = key
        log = _log.bind(namespace=namespace, secret=name)
        try:
            secret = await self._kubernetes.get_secret(namespace, name)
        except JiemiError as error:
            if error.failure.reason == "SecretNotFound":
                return True  # the watch reports it
            # What was read before may have been taken away since.
            self._webhooks.pop(key, None)
            log.warning("webhook_unread", reason=error.failure.reason, message=error.failure.text)
            return False
        if key not in self._known:
            return True  # it went meanwhile
        try:
            self._webhooks[key] = webhook = read_webhook(secret)
        except WebhookUnusable as error:
            self._webhooks.pop(key, None)
            log.warning("webhook_unusable", message=str(error))
            metadata = secret["metadata"]
            self._complain(key, str(error), str(metadata.get("uid", "")), str(metadata.get("resourceVersion", "")))
        else:
            self._is_usable(key)
            log.info("webhook", kind=webhook.kind, secrets=len(webhook.secrets))
        return True


@attrs.frozen
class _Secrets:
    """A `jiemi.miwen.watch.reflector.ListWatch`."""

    kubernetes: Kubernetes
    namespace: str | None

    async def list(self, *, limit: int, continue_token: str | None) -> Page:
        return await self.kubernetes.list_metadata(
            _SECRETS,
            label_selector=LABEL,
            field_selector="",
            limit=limit,
            continue_token=continue_token,
            namespace=self.namespace,
        )

    def watch(self, *, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.kubernetes.watch_metadata(
            _SECRETS,
            label_selector=LABEL,
            field_selector="",
            resource_version=resource_version,
            namespace=self.namespace,
        )


class _Sink:
    """A `jiemi.miwen.watch.reflector.Sink`."""

    def __init__(self, secrets: WebhookSecrets, namespace: str | None) -> None:
        self._secrets = secrets
        self._namespace = namespace
        self._told: str | None = None

    def put(self, obj: JsonObject) -> NamespacedName | None:
        key = _key(obj)
        if key is not None:
            self._secrets.put(key, str(obj["metadata"].get("uid", "")))
        return key

    def remove(self, obj: JsonObject) -> None:
        key = _key(obj)
        if key is not None:
            self._secrets.remove(key)

    def keep_only(self, keys: AbstractSet[NamespacedName]) -> None:
        self._secrets.keep_only(keys, self._namespace)

    def watching(self) -> None:
        self._told = None

    def interrupted(self, failure: Failure, failures_in_a_row: int) -> None:
        if failure.reason != self._told:
            self._told = failure.reason
            _log.warning("webhooks_not_followed", reason=failure.reason, message=failure.text)


def _key(obj: JsonObject) -> NamespacedName | None:
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    namespace, name = metadata.get("namespace"), metadata.get("name")
    return (namespace, name) if isinstance(namespace, str) and isinstance(name, str) else None
