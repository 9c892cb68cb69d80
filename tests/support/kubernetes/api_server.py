"""A plain client of the embedded control plane.

It is urllib3 with the kubeconfig's certificates and nothing else, so that tests see what the API server says, not what
Jiemi's own Kubernetes port makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import urllib3

Manifest = dict[str, Any]


@attrs.frozen
class Answer:
    """What the API server said."""

    status: int
    body: Any

    def ok(self) -> Any:
        assert 200 <= self.status < 300, self.body
        return self.body


class ApiServer:
    """The API server, as one user of it.

    Args:
        base: its address.
        pool: connections, with the user's certificate if that is how the user is known.
        headers: sent with every request, for a user known by a token or impersonated.
    """

    def __init__(self, base: str, pool: urllib3.PoolManager, headers: Mapping[str, str]) -> None:
        self.base, self._pool, self._headers = base, pool, dict(headers)

    @property
    def token(self) -> str:
        """The user's token, where the user is known by one."""
        return self._headers["Authorization"].removeprefix("Bearer ")

    def text(self, path: str) -> str:
        """An answer that is no JSON, the metrics for example."""
        return self._pool.request("GET", self.base + path, headers=self._headers, timeout=30).data.decode()

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Answer:
        answer = self._pool.request(
            method,
            self.base + path,
            body=None if body is None else json.dumps(body),
            headers={**self._headers, "Content-Type": content_type},
            timeout=30,
            retries=False,
        )
        is_json = "json" in answer.headers.get("Content-Type", "")
        return Answer(answer.status, json.loads(answer.data) if is_json else answer.data.decode())

    def path_of(self, manifest: Manifest) -> str:
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        (resource,) = (
            each
            for each in self.call("GET", prefix).ok()["resources"]
            if each["kind"] == kind and "/" not in each["name"]
        )
        namespace = f"/namespaces/{metadata['namespace']}" if resource["namespaced"] else ""
        return f"{prefix}{namespace}/{resource['name']}/{metadata['name']}"

    def changes_since(self, path: str, version: str) -> list[Manifest]:
        """What an object was after each change since a resourceVersion, which a watch shows."""
        collection, _, name = path.rpartition("/")
        selected = f"fieldSelector=metadata.name={name}&resourceVersion={version}"
        lines = self.text(f"{collection}?watch=true&{selected}&timeoutSeconds=1").splitlines()
        return [json.loads(line)["object"] for line in lines]

    def watch(self, path: str, *, seconds: int) -> Iterator[bytes]:
        """The events of a collection, a line of JSON each, as they come; what there is at the start comes first."""
        url = f"{self.base}{path}?watch=true&timeoutSeconds={seconds}"
        timeout = urllib3.Timeout(connect=30, read=seconds + 30)
        answer = self._pool.request("GET", url, headers=self._headers, preload_content=False, timeout=timeout)
        rest = b""
        for piece in answer.stream(amt=None):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines

    def apply(self, manifest: Manifest, *, query: str = "") -> Answer:
        """Server-side apply."""
        return self.call(
            "PATCH",
            f"{self.path_of(manifest)}?fieldManager=jiemi-tests&force=true{query}",
            manifest,
            "application/apply-patch+yaml",
        )

    def may(self, verb: str, group: str, resource: str, namespace: str = "default") -> bool:
        """Whether this user may, by the API server's own word."""
        name, _, subresource = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": name,
            "subresource": subresource,
            "namespace": namespace,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer.ok()["status"]["allowed"])

    def service_account(self, namespace: str, name: str) -> ApiServer:
        """The same server as this ServiceAccount, by a token of TokenRequest."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        answer = self.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        pool = urllib3.PoolManager(ca_certs=self._pool.connection_pool_kw["ca_certs"])
        return ApiServer(self.base, pool, {"Authorization": f"Bearer {answer.ok()['status']['token']}"})

    def impersonating(self, user: str) -> ApiServer:
        """The same server as another user."""
        return ApiServer(self.base, self._pool, {**self._headers, "Impersonate-User": user})


def open_admin(kubeconfig: Path) -> tuple[ApiServer, Callable[[], None]]:
    """The API server as the administrator of a kubeconfig, known by a certificate; and what closes the connections."""
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(  # type: ignore[no-untyped-call]  # the library gives no types here
        config_file=str(kubeconfig), client_configuration=configuration
    )
    pool = urllib3.PoolManager(
        ca_certs=configuration.ssl_ca_cert, cert_file=configuration.cert_file, key_file=configuration.key_file
    )
    return ApiServer(configuration.host, pool, {}), pool.clear


@pytest.fixture(scope="session")
def admin(control_plane: Path) -> Iterator[ApiServer]:
    """The embedded control plane's administrator."""
    found, close = open_admin(control_plane)
    yield found
    close()
