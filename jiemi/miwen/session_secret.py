"""The session secret in a Secret of Miwen's own namespace, which Krapao's Pod mounts.

Miwen creates it where it is missing, so that an installation needs no step for it: Krapao's Pod waits for its volume
until the Secret is there. A Secret that is there is read and never changed. An operator may write another value into
it, and both services take it up.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import structlog
import trio

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.rpc.session_secret import TOKEN_KEY, SessionSecretError, make_secret, parse_secrets

_FIRST_SECONDS = 2.0
_MOST_SECONDS = 60.0

_log = structlog.get_logger("jiemi.miwen")


class SessionSecretStore:
    """Reads the Secret, and creates it where it is missing.

    Args:
        kubernetes: the cluster that it is in.
        namespace, name: those of the Secret.
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str, name: str) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._name = name

    async def read(self) -> SensitiveText:
        """The secret to show: the first one in the Secret, which is created where it is not there.

        Raises:
            JiemiError: KrapaoAccessDenied where the Secret holds none; SecretForbidden; NamespaceNotFound;
                ApplyRejected; AdmissionDenied; ClusterUnavailable.
        """
        for _ in range(2):  # the second time, somebody else has created it meanwhile
            try:
                secret = await self._kubernetes.get_secret(self._namespace, self._name)
            except JiemiError as error:
                if error.failure.reason != "SecretNotFound":
                    raise
            else:
                _log.debug("session_secret_read", namespace=self._namespace, secret=self._name)
                return self._secret_in(secret)
            made = make_secret()
            if await self._kubernetes.create_secret(self._namespace, self._name, {TOKEN_KEY: made}):
                _log.info("session_secret_made", namespace=self._namespace, secret=self._name)
                return made
        raise JiemiError("KrapaoAccessDenied", f"the Secret {self._namespace}/{self._name} comes and goes")

    async def provide(self) -> None:
        """Make sure that the Secret is there, because Krapao does not start without it, until cancelled.

        It is looked at each minute: where somebody deleted it and no Krapao runs, nothing else asks for it.
        """
        wait_seconds = _FIRST_SECONDS
        while True:
            try:
                await self.read()
            except JiemiError as error:
                failure = error.failure
                _log.warning("session_secret_missing", reason=failure.reason, message=failure.text)
                await trio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, _MOST_SECONDS)
            else:
                wait_seconds = _FIRST_SECONDS
                await trio.sleep(_MOST_SECONDS)

    def _secret_in(self, secret: JsonObject) -> SensitiveText:
        where = f"key {TOKEN_KEY} of Secret {self._namespace}/{self._name}"
        data = secret.get("data")
        value = data.get(TOKEN_KEY) if isinstance(data, Mapping) else None
        try:
            return parse_secrets(base64.b64decode(str(value or ""), validate=True), where)[0]
        except (binascii.Error, SessionSecretError) as error:
            text = str(error) if isinstance(error, SessionSecretError) else f"{where} is not base64"
            raise JiemiError("KrapaoAccessDenied", f"{text}; or delete the Secret, and Miwen makes a new one") from None
