"""Objects of any kind on a real API server, read and written as one user.

A request says what it is about by a path, which discovery knows, and by preconditions: the uid or the version of the
object that is meant. A refused precondition says only that something did not fit (a JSON patch not even that much), so
the object's metadata is read again to learn what.

A write may arrive twice (`http`). An apply may; a JSON patch that tests the version is refused the second time, and the
caller reads the object again; a deletion whose object is gone at the second try is taken for its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.discovery import JUST_NOW_SECONDS, Discovery, Resource, is_path_part, target
from jiemi.miwen.kubernetes.errors import Act
from jiemi.miwen.kubernetes.http import JSON, Answer, KubernetesHttp, Request
from jiemi.miwen.kubernetes.port import (
    Account,
    JsonObject,
)
from jiemi.miwen.kubernetes.shown import Shown

JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
"""Not all that is served can give it: an aggregated API may answer with the whole object."""

_APPLY = "application/apply-patch+yaml"

MAX_BODY_BYTES = 3 * 1024 * 1024
"""The largest body of a request that an API server reads (MaxRequestBodyBytes in k8s.io/apiserver's pkg/server). A
larger one is not sent: many at once, each up to three times as large as its file, are more than Miwen's memory."""


@attrs.frozen
class _Asked:
    """An object that is asked for something.

    Attributes:
        act: what is asked, for messages.
        path: the object's.
    """

    act: Act
    path: str


@attrs.frozen
class _Body:
    """What a request sends: JSON, and its content type."""

    value: object = attrs.field(repr=False)
    content_type: str


class RealObjects:
    """The port `Objects`, for real. Made by `RealKubernetes.objects`.

    Args:
        http: the way to the API server.
        discovery: what is known of kinds; it is asked for as Miwen, whoever the account is.
        account: the account that reads and writes; None is Miwen.
        scopes: as the port has them.
    """

    def __init__(
        self,
        http: KubernetesHttp,
        discovery: Discovery,
        account: Account | None,
        scopes: Collection[str | None] = (None,),
    ) -> None:
        self._http = http
        self._discovery = discovery
        self._account = account
        self._scopes = scopes

    async def resource(self, api_version: str, kind: str, *, fresh: bool = False) -> Resource | None:
        """See the port."""
        return await self._discovery.find(api_version, kind, fresh=fresh)

    async def similar_kinds(self, kind: str) -> Sequence[Resource]:
        """See the port."""
        try:
            return await self._discovery.similar(kind)
        except JiemiError:  # it is a help only, and whatever is wrong shows where it matters
            return ()

    async def apply(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """See the port."""
        applied = await self._apply("apply", manifest, default_namespace, take_over)
        return _metadata(applied)

    async def dry_run(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        """See the port."""
        return await self._apply("dry-run", manifest, default_namespace, take_over)

    async def get(self, ref: ObjectRef) -> JsonObject | None:
        """See the port."""
        return await self._read("get", ref, JSON)

    async def get_metadata(self, ref: ObjectRef) -> JsonObject | None:
        """See the port."""
        found = await self._read("get-metadata", ref, METADATA_ONLY)
        return None if found is None else _metadata(found)

    async def delete(self, ref: ObjectRef, *, uid: str, resource_version: str | None = None) -> bool:
        """See the port."""
        asked = await self._asked(ref, "deleting")
        if asked is None:
            return False
        act = asked.act
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version is not None else {})
        # https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        }
        answer = await self._send(asked, "delete", "DELETE", body=_Body(options, JSON), accept=METADATA_ONLY)
        if answer.good:
            return True
        refusal = answer.refusal
        if refusal.code == HTTPStatus.NOT_FOUND and not refusal.by_admission:
            self._notice_missing(act, answer)
            return answer.tried_before
        if refusal.code != HTTPStatus.CONFLICT or refusal.by_admission:
            raise errors.access_failure(refusal, act, "DeleteForbidden", "delete")
        live = await self.get_metadata(ref)
        if live is None or live.get("uid") != uid:
            return answer.tried_before
        if answer.tried_before and "deletionTimestamp" in live:
            return True
        raise errors.changed(act.label)

    async def remove_fields(
        self, ref: ObjectRef, paths: Sequence[tuple[str, ...]], *, resource_version: str
    ) -> JsonObject:
        """See the port."""
        patch = [must_be("metadata", "resourceVersion", value=resource_version)]
        patch += [{"op": "remove", "path": pointer(*parts)} for parts in paths]
        metadata = await self._patch(ref, "removing fields of", "remove-fields", patch)
        if metadata is not None:
            return metadata
        live = await self.get_metadata(ref)
        if live is None or live.get("resourceVersion") != resource_version:
            raise errors.changed(ref.label)
        raise errors.no_such_field(ref.label)

    async def set_managed_fields(
        self, ref: ObjectRef, managed_fields: Sequence[Any], *, uid: str, resource_version: str
    ) -> JsonObject:
        """See the port."""
        patch = [
            must_be("metadata", "uid", value=uid),
            must_be("metadata", "resourceVersion", value=resource_version),
            {"op": "replace", "path": pointer("metadata", "managedFields"), "value": list(managed_fields)},
        ]
        metadata = await self._patch(ref, "taking over", "set-managed-fields", patch)
        if metadata is None:
            raise errors.changed(ref.label)
        return metadata

    async def _patch(self, ref: ObjectRef, doing: str, verb: str, patch: list[dict[str, Any]]) -> JsonObject | None:
        """Send a JSON patch. Returns the metadata after it; None where the patch does not fit the object."""
        asked = await self._asked(ref, doing)
        if asked is None:
            raise errors.changed(ref.label)
        act, query = asked.act, {"fieldManager": FIELD_MANAGER}
        answer = await self._send(asked, verb, "PATCH", query, body=_Body(patch, JSON_PATCH), accept=METADATA_ONLY)
        if answer.good:
            return _metadata(self._http.object_in(answer, act.doing))
        refusal = answer.refusal
        if refusal.code == HTTPStatus.NOT_FOUND and not refusal.by_admission:
            self._notice_missing(act, answer)
            raise errors.changed(act.label)
        if not refusal.of_patch:
            raise errors.apply_failure(refusal, act)
        return None

    # ---

    async def _apply(self, verb: str, manifest: JsonObject, default_namespace: str, take_over: bool) -> dict[str, Any]:
        """Apply for real or not; returns what is answered: metadata for the one, the whole object for the other."""
        dry = verb == "dry-run"
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        resource = await self.resource(api_version, kind)
        if resource is None:
            raise errors.kind_unknown(api_version, kind)
        to = target(manifest, resource, default_namespace=default_namespace)
        doing = "trying" if dry else "applying"
        act = self._act(f"{doing} {to.label}", to.label, resource, to.namespace, manifest)
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if take_over else "false"}
        if dry:
            query["dryRun"] = "All"
        asked = _Asked(act, resource.path(to.namespace, to.name))
        accept = JSON if dry else METADATA_ONLY
        answer = await self._send(asked, verb, "PATCH", query, body=_Body(to.body, _APPLY), accept=accept)
        if not answer.good:
            failure = errors.apply_failure(answer.refusal, act)
            if failure.failure.reason == "KindUnknown":
                self._discovery.forget(api_version)
            raise failure
        return self._http.object_in(answer, act.doing)

    async def _read(self, verb: str, ref: ObjectRef, accept: str) -> dict[str, Any] | None:
        asked = await self._asked(ref, "reading")
        if asked is None:
            return None
        act = asked.act
        answer = await self._send(asked, verb, "GET", accept=accept)
        if answer.good:
            return self._http.object_in(answer, act.doing)
        if answer.status == HTTPStatus.NOT_FOUND:
            self._notice_missing(act, answer)
            return None
        raise errors.access_failure(answer.refusal, act, "ReadForbidden", "get")

    async def _asked(self, ref: ObjectRef, doing: str) -> _Asked | None:
        """An object that is asked for something; None where there can be none, which an old answer does not say."""
        resource = await self._discovery.find(ref.api_version, ref.kind, unknown_seconds=JUST_NOW_SECONDS)
        if resource is None or not is_path_part(ref.name) or (resource.namespaced and not is_path_part(ref.namespace)):
            return None
        namespace = ref.namespace if resource.namespaced else None
        act = self._act(f"{doing} {ref.label}", ref.label, resource, namespace)
        return _Asked(act, resource.path(namespace, ref.name))

    def _act(
        self, doing: str, of: str, resource: Resource, namespace: str | None, manifest: JsonObject | None = None
    ) -> Act:
        followed = None in self._scopes or namespace in self._scopes
        return Act(doing, of, resource, namespace, self._account, Shown(manifest), followed)

    async def _send(
        self,
        asked: _Asked,
        verb: str,
        method: str,
        query: Mapping[str, str] | None = None,
        *,
        body: _Body | None = None,
        accept: str,
    ) -> Answer:
        """Send a request as the account.

        Args:
            verb: what it counts as.
        """
        act = asked.act
        account = self._account
        if account is not None and not account.is_possible:
            # What it names may be no header, or another user than a ServiceAccount.
            raise JiemiError(
                "ImpersonationForbidden",
                f"{act.doing}: no ServiceAccount can have the name that is given",
                "Correct serviceAccountName (or --default-service-account): it is the name alone, of an account in the "
                "Decryptor's namespace.",
            )
        # ASCII: the API server reads an apply as YAML, which folds U+2028 and the like.
        data = None if body is None else json.dumps(body.value, separators=(",", ":")).encode()
        if data is not None and len(data) > MAX_BODY_BYTES:
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, None, b"")
        return await self._http.send(
            Request(
                verb=verb,
                resource=act.resource.plural,
                doing=act.doing,
                method=method,
                path=asked.path,
                query=query or {},
                body=data,
                content_type=None if body is None else body.content_type,
                accept=accept,
                impersonate=None if account is None else account.user,
            )
        )

    def _notice_missing(self, act: Act, answer: Answer) -> None:
        """A 404 that names no object is of a kind that is no longer served."""
        if not answer.refusal.of_name:
            self._discovery.forget(act.resource.api_version)


def pointer(*parts: str) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)


def must_be(*parts: str, value: object) -> dict[str, Any]:
    """The operation of a JSON patch that lets the whole fail where a field has another value (RFC 6902)."""
    return {"op": "test", "path": pointer(*parts), "value": value}


def _metadata(obj: JsonObject) -> dict[str, Any]:
    metadata = obj.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
