"""Who gets a session at Krapao's port: a client with the right certificate, with the right session secret, or both.

What is asked for is read again each time, so a renewed certificate or another secret needs no restart. A client that
came in with what is no longer good is shown out within half a minute; an honest one comes back with what is good now.
While a file can't be read, nothing is known: no new client gets in by it, and those that are in stay.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import attrs

from jiemi.core.errors import Failure
from jiemi.rpc.rare_log import rare_log
from jiemi.rpc.session_secret import SessionSecretError, digest, is_one_of, read_secret_file
from jiemi.rpc.tls import ServerTls, TlsPeer

Refusal = Literal["user", "place", "handshake", "identity", "session", "message"]
"""Why a connection was not let in, or closed.

- user: on a unix socket, it is of another user.
- place: there was none for it, or it made way for another.
- handshake: it made no TLS handshake with a certificate that an authority vouches for.
- identity: its certificate's name or its secret is not the right one, or no longer.
- session: it opened none in time, or several.
- message: it sent what no client sends, or more than one may.
"""

REFUSALS: tuple[Refusal, ...] = get_args(Refusal)


@attrs.frozen
class Shown:
    """By what a client came in.

    Attributes:
        secret: the digest of the session secret, where one was compared.
        peer: its certificate, on a connection with TLS.
    """

    secret: bytes | None
    peer: TlsPeer | None


class Admission:
    """What a port asks of its clients.

    Args:
        secret_file: the secrets of which a client has to show one (`jiemi.rpc.session_secret`); None asks for none.
        tls: whom to take connections from on TCP, and with which identity; None talks plain TCP.
        refused: called for each connection that is not let in, or closed.
    """

    def __init__(
        self,
        secret_file: Path | None = None,
        tls: ServerTls | None = None,
        refused: Callable[[Refusal], object] = lambda _: None,
    ) -> None:
        self.tls = tls
        self.refused = refused
        self._secret_file = secret_file
        self._log = rare_log("jiemi.rpc")

    @property
    def compares_secrets(self) -> bool:
        return self._secret_file is not None

    def refusal(self, secret: str | None, peer: TlsPeer | None) -> Failure | None:
        """Why a client gets no session; None where it gets one.

        Args:
            secret: what it shows.
            peer: its certificate, on a connection with TLS.
        """
        return self._refusal_of_peer(peer) or self._refusal_of_secret(secret)

    def shown(self, secret: str | None, peer: TlsPeer | None) -> Shown:
        """What is remembered of a client that came in."""
        return Shown(digest(secret) if secret is not None and self.compares_secrets else None, peer)

    def reason_to_go(self, shown: Shown) -> str | None:
        """Why a client that came in may not stay, where it may not."""
        if shown.secret is not None and self._is_withdrawn(shown.secret):
            return "its session secret is no longer Krapao's"
        if shown.peer is None or self.tls is None:
            return None
        trusted = self.tls.refresh()
        self.warn_of_unusable_identity()
        return shown.peer.reason_to_go(trusted, datetime.datetime.now(datetime.UTC))

    def warn_of_unusable_identity(self) -> None:
        """Log it where the certificates could not be used when they were read last."""
        if self.tls is not None and self.tls.unreadable:
            self._log.warning("tls_identity_unusable", error=self.tls.unreadable)

    def _refusal_of_peer(self, peer: TlsPeer | None) -> Failure | None:
        if self.tls is None or peer is None or self.tls.client_name in peer.names:
            return None
        named = ", ".join(sorted(peer.names)) or "nobody"
        return Failure(
            "KrapaoAccessDenied",
            f"the certificate that was shown to Krapao is for {named}, and Krapao takes one for {self.tls.client_name}",
            f"Give Miwen a certificate with the DNS name {self.tls.client_name}, or start Krapao with "
            "--tls-client-name.",
        )

    def _refusal_of_secret(self, secret: str | None) -> Failure | None:
        if self._secret_file is None:
            return None
        try:
            accepted = read_secret_file(self._secret_file)
        except SessionSecretError as error:
            self._log.warning("session_secret_unreadable", error=str(error))
            return Failure("KrapaoAccessDenied", "Krapao can't read its own session secret; its log says why")
        if secret is None:
            return Failure(
                "KrapaoAccessDenied",
                "Krapao asks for a session secret, and none was sent: start Miwen with --session-secret or "
                "--session-secret-file (a Miwen that has neither flag is of an older release; upgrade it)",
            )
        if not is_one_of(digest(secret), accepted):
            return Failure("KrapaoAccessDenied", "the session secret that was sent is not the one that Krapao has")
        return None

    def _is_withdrawn(self, shown: bytes) -> bool:
        if self._secret_file is None:
            return False
        try:
            accepted = read_secret_file(self._secret_file)
        except SessionSecretError as error:
            self._log.warning("session_secret_unreadable", error=str(error))
            return False
        return not is_one_of(shown, accepted)
