"""A folder that is kept as a Secret is, as the kubelet keeps a volume of it."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from support.kubernetes.api_server import open_admin
from support.network.tls_folders import write_parts

_PAUSE_SECONDS = 0.2
_END_SECONDS = 60


@contextlib.contextmanager
def secret_volume(kubeconfig: Path, namespace: str, name: str, folder: Path) -> Iterator[None]:
    """Keep the folder so while the context lasts; it is there once the Secret is. All files change at once.

    Args:
        kubeconfig: of who may read it.

    Raises:
        ExceptionGroup: what that failed with.
    """
    ended, failures = threading.Event(), list[Exception]()

    def keep() -> None:
        written = ""
        admin, close = open_admin(kubeconfig)
        try:
            while not ended.wait(_PAUSE_SECONDS):
                found = admin.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
                if found.status == 200 and found.body["metadata"]["resourceVersion"] != written:
                    data = found.body.get("data") or {}
                    write_parts(folder, {key: base64.b64decode(value) for key, value in data.items()})
                    written = found.body["metadata"]["resourceVersion"]
        except Exception as error:  # noqa: BLE001 # it is raised where the thread is waited for
            failures.append(error)
        finally:
            close()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_END_SECONDS)
    if failures:
        raise ExceptionGroup("a Secret's volume was not kept", failures)
