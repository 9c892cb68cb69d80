"""deploy/webhooks as it is shipped: a signed push by way of its Service is in the cluster at once."""

from __future__ import annotations

from support.canaries.forms import forms_of, found_in
from support.kubernetes.kubectl import Kubectl
from support.pods.demo import Demo, until
from support.pods.webhooks import SOON_SECONDS, WEBHOOK, addresses_of, deliver, look_hourly, signed_push, taken_up
from support.webhooks.requests import SECRET

from jiemi.demo.content import EXPECTED


async def test_a_signed_push_is_deployed_at_once_and_an_unsigned_one_is_refused(received: Kubectl, demo: Demo) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    look_hourly(demo)
    demo.kubectl("apply", "-f", "-", given=WEBHOOK)
    addresses = addresses_of(received)
    try:
        for address in addresses:
            taken_up(demo, address)
        for number, (host, port) in enumerate(addresses):
            greeting = f"Hello by webhook {number}"
            before = demo.plain()
            demo.push(greeting)
            forged = signed_push(demo)
            assert deliver(host, port, forged.without("x-hub-signature-256")) == 403
            assert deliver(host, port, forged.with_body(forged.body + b" ")) == 403
            assert demo.plain() == before
            assert deliver(host, port, signed_push(demo)) == 202
            until("it is deployed", lambda wanted=greeting: demo.plain()["greeting"] == wanted, seconds=SOON_SECONDS)  # type: ignore[misc]
            until("the status says so", lambda: demo.revision() == demo.repository.head(), seconds=SOON_SECONDS)
        logs = received("logs", "--selector=app.kubernetes.io/component=miwen", "--tail=-1")
        assert logs
        assert found_in({"logs": logs.encode()}, forms_of(SECRET)) == []
    finally:
        demo.kubectl("delete", "secret", "hook")
