"""What of an API server's answer may be shown: names that were there before it came.

A field's path may hold a map's key, the content of a list's element, or whatever a strange API server or a hostile
webhook writes there, and any client chooses its own name as field manager. So a part of a path is shown where the
manifest itself has it as a key (sops encrypts no keys), or where it is a word of Kubernetes' or of Jiemi's own API;
what follows the first other part is left out. A manager's name is shown where it has the form of one and shares nothing
with a value of the manifest.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from jiemi.core.api.crd import crd
from jiemi.core.names import is_manager_name

_INDEX = re.compile(r"\[\d{1,6}\]")
_LEAST_SHARED = 4
"""Characters of a value that must not be in a name. Shorter ones are in many names by chance."""

# Fields of Kubernetes' API, and keys that a Secret of a type of Kubernetes' own must have.
_WORDS = frozenset(
    """
    accessModes addresses affinity allowPrivilegeEscalation annotations apiGroup apiGroups apiVersion args
    automountServiceAccountToken backend backoffLimit behavior binaryData capabilities claimRef clusterIP clusterIPs
    clusterName command completions concurrencyPolicy conditions configMap configMapKeyRef configMapRef
    containerPort containers conversion cpu creationTimestamp data defaultMode description dnsPolicy egress emptyDir
    endpoints env envFrom ephemeralContainers exec expirationSeconds externalIPs externalName failureThreshold
    fieldPath fieldRef finalizers from group groups handlers hard healthCheckNodePort host hostname hostNetwork
    hostPath hostPort hosts http httpGet image imagePullPolicy imagePullSecrets immutable ingress ingressClassName
    initContainers initialDelaySeconds ipFamilies ipFamilyPolicy items jobTemplate key kind labels lifecycle limits
    list livenessProbe loadBalancerIP managedFields matchExpressions matchLabels maxReplicas maxSurge maxUnavailable
    memory metadata metrics minAvailable minReplicas mode mountPath name namespace namespaceSelector names nodeName
    nodePort nodeSelector operator optional ownerReferences parallelism parameters path paths pathType periodSeconds
    persistentVolumeClaim persistentVolumeReclaimPolicy plural podSelector policy policyTypes port ports priority
    priorityClassName projected protocol provisioner rbac readOnly readinessProbe reclaimPolicy replicas requests
    resourceNames resources restartPolicy roleRef rollingUpdate rule rules runAsNonRoot runAsUser scaleTargetRef
    schedule schema scope secret secretKeyRef secretName secretRef secrets securityContext selector seccompProfile
    serviceAccount serviceAccountName serviceName servicePort sessionAffinity sources spec startupProbe status
    storage storageClassName storedVersions strategy stringData subPath subjects successThreshold suspend targetPort
    template terminationGracePeriodSeconds timeoutSeconds tls tolerations topologySpreadConstraints type uid
    updateStrategy user users value valueFrom values verbs versions volumeClaimTemplates volumeMode volumeMounts
    volumeName volumes webhooks tls.crt tls.key .dockercfg .dockerconfigjson ssh-privatekey username password
    kubernetes.io/service-account.name action eventTime note reason regarding related reportingController
    reportingInstance series
    """.split()  # noqa: SIM905 - two hundred quotes fewer
)


@attrs.frozen
class Shown:
    """What may be shown of answers about a manifest.

    Attributes:
        manifest: what was sent; None: nothing of a user's.
    """

    manifest: Mapping[str, Any] | None = attrs.field(default=None, repr=False)

    def field(self, path: str) -> str:
        """A field's path as far as it may be shown: "data[password]", "spec.ports[0].name", "spec.ports…"."""
        path = path.lstrip(".")
        keys = self._keys()
        at = 0
        while at < len(path):
            end = _after_part(path, at, keys)
            if end is None:
                return f"{path[:at].rstrip('.')}…" if at else ""
            at = end
        return path

    def manager(self, name: str) -> str | None:
        """The name of a field manager; None where it is not to be shown."""
        if self.manifest is None or not is_manager_name(name):
            return None
        small = name.casefold()
        for value in _values(self.manifest):
            other = value.casefold()
            if small == other or (len(other) >= _LEAST_SHARED and other in small):
                return None
            if len(small) >= _LEAST_SHARED and small in other:
                return None
        return name

    def _keys(self) -> frozenset[str]:
        return _api_words() | frozenset(_keys(self.manifest))


def _after_part(path: str, at: int, keys: frozenset[str]) -> int | None:
    """Where the part of a path ends that begins there; None where it may not be shown.

    Keys may have dots in them, so the longest that fits is taken.
    """
    index = _INDEX.match(path, at)
    if index is not None:
        return index.end()
    if path[at] == "[":
        found = [key for key in keys if path.startswith(f"{key}]", at + 1)]
        return at + 2 + max(map(len, found)) if found else None
    begin = at + 1 if path[at] == "." else at
    ends = [begin + len(key) for key in keys if path.startswith(key, begin)]
    ends = [end for end in ends if end == len(path) or path[end] in ".["]
    return max(ends) if ends else None


@functools.cache
def _api_words() -> frozenset[str]:
    """Words of Kubernetes' API, and of the Decryptor's."""
    return _WORDS | frozenset(_property_names(crd()))


def _property_names(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from (str(name) for name in properties)
        for part in schema.values():
            yield from _property_names(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _property_names(part)


def _keys(value: Any) -> Iterator[str]:
    """All keys of a manifest."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if isinstance(key, str) and key:
                yield key
            yield from _keys(part)
    elif isinstance(value, list):
        for part in value:
            yield from _keys(part)


def _values(value: Any) -> Iterator[str]:
    """All texts of a manifest except its apiVersion and kind; what is base64 is there decoded too."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in {"apiVersion", "kind"}:
                yield from _values(part)
    elif isinstance(value, list):
        for part in value:
            yield from _values(part)
    elif isinstance(value, str):
        yield value
        try:
            yield base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            return
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
