"""Which kinds the cluster serves, and so where a manifest goes.

The kinds of a group and version are asked for once and kept. A kind that is not among them makes them be asked for
again, but at most once in a few seconds however many Decryptors name it, and by one of them while the others wait.
An answer that turned out wrong is asked for again when it is next wanted. Until then it is all that is known: to take
it away would say of each kind of the group that the cluster does not serve it.
https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import attrs
import trio

from jiemi.core.errors import JiemiError

REFRESH_SECONDS = 5.0
"""The shortest time between two questions for the same group and version because of a kind that is not among them; and
between two because the answer turned out wrong (a CustomResourceDefinition that is gone stays listed for a while)."""

JUST_NOW_SECONDS = 1.0
"""How old an answer may be by which it is said that an object can't be there, because its kind is not."""

ALL_KINDS = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""The form in which `/api` and `/apis` give all kinds at once; it is stable since Kubernetes 1.30."""

ALL_KINDS_SECONDS = 60.0
"""The shortest time between two questions for all kinds. The answer, some 100 KiB, serves messages only."""

MAX_GROUPS = 500
"""How many groups and versions are kept. A cluster has some dozens; the names come from files that users write."""

_API_VERSION = re.compile(r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9]+")


@attrs.frozen
class Resource:
    """Where the objects of a kind are.

    Attributes:
        api_version: "v1" or "apps/v1".
        kind: "Secret".
        plural: its name in paths and in RBAC rules: "secrets".
        namespaced: whether its objects live in namespaces.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        """The API group; "" is the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str) -> str:
        """The path of one object. The parts must have passed `is_path_part`."""
        return f"{self.collection_path(namespace)}/{quote(name, safe='')}"

    def collection_path(self, namespace: str | None) -> str:
        """The path of the objects of a namespace; None: of all."""
        scope = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{version_path(self.api_version)}{scope}/{quote(self.plural, safe='')}"


def is_api_version(text: str) -> bool:
    """Whether the text has the form of an apiVersion, so that it may become part of a path."""
    return _API_VERSION.fullmatch(text) is not None and ".." not in text


def is_path_part(name: str) -> bool:
    """Whether a name may become part of a path.

    The API server's own rule (k8s.io/apimachinery/pkg/api/validation/path). It is kept here too, because an HTTP
    client takes ".." out of a path by itself and would then ask for something else.
    """
    return name not in {"", ".", ".."} and not any(char in "/%" or not char.isprintable() for char in name)


def version_path(api_version: str) -> str:
    """The path of a group and version."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def parse_resources(api_version: str, listed: Mapping[str, Any]) -> dict[str, Resource]:
    """The kinds in an APIResourceList; subresources and what makes no sense are left out."""
    resources: dict[str, Resource] = {}
    items = listed.get("resources")
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, Mapping):
            continue
        kind, plural = item.get("kind"), item.get("name")
        if isinstance(kind, str) and isinstance(plural, str) and is_path_part(plural):
            resources.setdefault(kind, Resource(api_version, kind, plural, item.get("namespaced") is True))
    return resources


def parse_all_kinds(listed: Mapping[str, Any]) -> list[Resource]:
    """The kinds in an APIGroupDiscoveryList; of each version of a group, the preferred one first.

    https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
    """
    found = []
    for group in _mappings(listed.get("items")):
        metadata = group.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, Mapping) else None
        for version in _mappings(group.get("versions")):
            api_version = f"{name}/{version.get('version')}" if name else version.get("version")
            if not isinstance(api_version, str) or not is_api_version(api_version):
                continue
            for item in _mappings(version.get("resources")):
                kind, plural = item.get("responseKind"), item.get("resource")
                kind = kind.get("kind") if isinstance(kind, Mapping) else None
                if isinstance(kind, str) and kind.isalnum() and isinstance(plural, str) and is_path_part(plural):
                    found.append(Resource(api_version, kind, plural, item.get("scope") == "Namespaced"))
    return found


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


@attrs.frozen
class Target:
    """One object to apply.

    Attributes:
        namespace: None for a kind that has none.
        name: the object's.
        body: what is sent; it may be a Secret.
    """

    kind: str
    namespace: str | None
    name: str
    body: Mapping[str, Any] = attrs.field(repr=False)

    @property
    def label(self) -> str:
        """Kind and name, for messages: "Secret default/demo"."""
        return label(self.kind, self.namespace, self.name)


def label(kind: str, namespace: str | None, name: str) -> str:
    """Kind and name of an object, for messages: "Secret default/demo", "Namespace demo"."""
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def target(manifest: Mapping[str, Any], resource: Resource, *, default_namespace: str) -> Target:
    """Where the manifest goes, given what the cluster says of its kind.

    A namespace that a manifest of a cluster-wide kind has (kustomize may put one on everything) is left out. A Secret's
    `stringData` goes as `data`, which is where it ends up: applied as it is, the API server would own `stringData` for
    us, and neither remove what is no longer given nor show us that another changes it (tried with 1.37).

    Raises:
        JiemiError: ApplyRejected, the name or namespace can't be one.
    """
    metadata = dict(manifest["metadata"])
    name, namespace = metadata["name"], None
    if resource.namespaced:
        namespace = metadata.get("namespace") or default_namespace
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    for field, part in (("metadata.name", name), ("metadata.namespace", namespace)):
        if part is not None and not (isinstance(part, str) and is_path_part(part)):
            what = label(resource.kind, namespace, str(name))
            raise JiemiError("ApplyRejected", f"{what}: {field} is no name that an object can have")
    return Target(resource.kind, namespace, name, {**_stored_form(manifest, resource), "metadata": metadata})


def _stored_form(manifest: Mapping[str, Any], resource: Resource) -> Mapping[str, Any]:
    """A Secret with its `stringData` as `data`; one that has no right form is left to the API server to reject."""
    texts, data = manifest.get("stringData"), manifest.get("data") or {}
    if (resource.api_version, resource.kind) != ("v1", "Secret") or not isinstance(texts, Mapping):
        return manifest
    if not isinstance(data, Mapping) or not all(isinstance(text, str) for text in texts.values()):
        return manifest
    try:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    except UnicodeEncodeError:  # half of a surrogate pair
        return manifest
    rest = {field: value for field, value in manifest.items() if field != "stringData"}
    return {**rest, "data": {**data, **encoded}} if encoded else rest


class Discovery:
    """The kinds, as far as they were asked for.

    Args:
        fetch: gives the kinds of an apiVersion by name; none where the cluster does not serve it.
        fetch_all: gives the kinds of all apiVersions, the preferred version of each first; None: nothing.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[Mapping[str, Resource]]],
        fetch_all: Callable[[], Awaitable[Sequence[Resource]]] | None = None,
    ) -> None:
        self._fetch = fetch
        self._fetch_all = fetch_all
        self._groups: dict[str, _Group] = {}
        self._all: Mapping[str, Sequence[Resource]] = {}
        self._all_asked_at = float("-inf")
        self._all_lock = trio.Lock()

    async def similar(self, kind: str) -> Sequence[Resource]:
        """The kinds whose name or plural is that one, capitals aside; of each group the preferred version.

        Args:
            kind: the one that is not served where it was looked for.

        Raises:
            Whatever `fetch_all` raises; it is asked again after a while only.
        """
        async with self._all_lock:
            now = trio.current_time()
            if now >= self._all_asked_at + ALL_KINDS_SECONDS:
                self._all_asked_at, self._all = now, {}
                self._all = _by_name(await self._fetch_all()) if self._fetch_all is not None else {}
            return self._all.get(kind.lower(), ())

    async def find(
        self, api_version: str, kind: str, *, fresh: bool = False, unknown_seconds: float = REFRESH_SECONDS
    ) -> Resource | None:
        """The kind, or None when the cluster does not serve it.

        Args:
            fresh: ask now, whatever is known. Those that ask while another waits for its turn share the answer.
            unknown_seconds: how old an answer may be that is believed where the kind is not in it.

        Raises:
            Whatever `fetch` raises.
        """
        if not is_api_version(api_version):
            return None
        group = self._groups.get(api_version)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                self._groups.clear()
            group = self._groups[api_version] = _Group()
        if fresh or group.must_ask(kind, unknown_seconds):
            begun = group.begun
            async with group.lock:
                if group.ended <= begun if fresh else group.must_ask(kind, unknown_seconds):
                    await self._ask(api_version, group)
        return group.kinds.get(kind)

    async def _ask(self, api_version: str, group: _Group) -> None:
        group.begun = number = group.begun + 1
        wrong, group.wrong = group.wrong, False  # what is found wrong meanwhile is so of this answer too
        try:
            group.kinds = await self._fetch(api_version)
        except BaseException:
            group.wrong |= wrong
            raise
        group.ended = number
        group.answered_at = trio.current_time()
        if wrong:
            group.wrong_answered_at = group.answered_at

    def forget(self, api_version: str) -> None:
        """What was known of an apiVersion turned out wrong: ask again when one of its kinds is wanted."""
        group = self._groups.get(api_version)
        if group is not None:
            group.wrong = True


def _by_name(resources: Sequence[Resource]) -> Mapping[str, Sequence[Resource]]:
    """The kinds by name and plural in small letters; of each group and kind the first."""
    found: dict[str, dict[tuple[str, str], Resource]] = {}
    for each in resources:
        for name in {each.kind.lower(), each.plural.lower()}:
            found.setdefault(name, {}).setdefault((each.group, each.kind), each)
    return {name: tuple(each.values()) for name, each in found.items()}


class _Group:
    """What is known of an apiVersion.

    Attributes:
        kinds: the last answer.
        wrong: whether it turned out wrong.
        begun, ended: the number of the question that began last, and of the one whose answer `kinds` is.
        answered_at: when it came; `wrong_answered_at`: when the last came that was asked for because one was wrong.
    """

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.kinds: Mapping[str, Resource] = {}
        self.wrong = False
        self.begun = 0
        self.ended = 0
        self.answered_at = float("-inf")
        self.wrong_answered_at = float("-inf")

    def must_ask(self, kind: str, unknown_seconds: float) -> bool:
        """Whether what is known does not do."""
        now = trio.current_time()
        if self.wrong and now >= self.wrong_answered_at + REFRESH_SECONDS:
            return True
        return kind not in self.kinds and now >= self.answered_at + unknown_seconds
