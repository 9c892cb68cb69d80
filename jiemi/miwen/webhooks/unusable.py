"""Events on the Secrets that declare a webhook which can't be used: `kubectl describe secret` shows what is wrong.

The active Miwen alone reports, because one that waits writes nothing to the cluster. What was reported is reported
again while it lasts, because Events go after an hour; the recorder leaves out what is repeated sooner.
"""

from __future__ import annotations

import trio

from jiemi.core.api.decryptor import ObjectMeta
from jiemi.core.names import NamespacedName
from jiemi.miwen.report.event_object import SECRET, EventContent
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.webhooks.secrets import Unusable, WebhookSecrets

_AGAIN_SECONDS = 3_600.0
_MENDED = EventContent("Normal", "WebhookUsable", "ReadWebhook", "The webhook can be used.")


async def report_unusable(secrets: WebhookSecrets, events: EventRecorder) -> None:
    """Report until cancelled."""
    before: dict[NamespacedName, Unusable] = {}
    while True:
        now = dict(secrets.unusable)
        for key, found in now.items():
            note = f"No webhook is taken by this Secret: {found.message}."
            content = EventContent("Warning", "WebhookUnusable", "ReadWebhook", note)
            events.record(_meta(key, found), content, kind=SECRET)
        for key, found in before.items():
            if key not in now and key in secrets.webhooks:
                events.record(_meta(key, found), _MENDED, transition=True, kind=SECRET)
        before = now
        with trio.move_on_after(_AGAIN_SECONDS):
            await secrets.unusable_changed()


def _meta(key: NamespacedName, found: Unusable) -> ObjectMeta:
    return ObjectMeta(key[0], key[1], found.uid, 0, found.resource_version)
