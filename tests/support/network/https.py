"""A git host over https with an authority of its own, and clients with certificates."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from support.network.tls_folders import HOUR, now

from jiemi.certificates import CLIENT_AUTH, SERVER_AUTH, Issued, Subject, issue, make_authority

DAY = datetime.timedelta(days=1)


def authority() -> Issued:
    return make_authority("authority", now(), DAY)


def server_of(signer: Issued, folder: Path, *, clients_of: Issued | None = None) -> ssl.SSLContext:
    """How a server speaks TLS that asks for client certificates of an authority, or for none."""
    made = issue(signer, Subject("git", (SERVER_AUTH,), ("127.0.0.1",)), now(), HOUR)
    (folder / "server.pem").write_bytes(made.certificate_pem() + made.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients_of.certificate_pem().decode())
    return context


def client_of(signer: Issued, *, at: datetime.datetime | None = None) -> tuple[str, str]:
    """A client certificate and its key."""
    made = issue(signer, Subject("client", (CLIENT_AUTH,), ()), at or now(), HOUR)
    return made.certificate_pem().decode(), made.key_pem().decode()
