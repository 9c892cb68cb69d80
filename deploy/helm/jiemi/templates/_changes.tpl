{{- /*
What values change of an object of deploy/. A "change" is a dict: `object`, which is changed in place; `root`; and `drop`, true
where the object is not rendered. These templates give no text.
*/ -}}

{{- /* What the schema can't say. */ -}}
{{- define "jiemi.check" -}}
  {{- if and (eq .Values.form "namespaces") (not .Values.namespaces) -}}
    {{- fail "namespaces: the form namespaces needs at least one" -}}
  {{- end -}}
  {{- if and (ne .Values.form "namespaces") .Values.namespaces -}}
    {{- fail "namespaces: they are for the form namespaces; set form: namespaces" -}}
  {{- end -}}
  {{- if has .Release.Namespace .Values.namespaces -}}
    {{- fail "namespaces: Miwen applies nothing in the namespace that it runs in" -}}
  {{- end -}}
  {{- if and (eq .Values.tls.madeBy "cert-manager") (not .Values.tls.issuerRef.name) -}}
    {{- fail "tls.issuerRef.name: cert-manager needs an issuer" -}}
  {{- end -}}
  {{- if and (eq .Values.tls.madeBy "nobody") (not .Values.sessionSecret.name) -}}
    {{- fail "sessionSecret.name: without TLS a session secret keeps strangers out" -}}
  {{- end -}}
{{- end -}}

{{- /* A patch of an install form: it drops an object, or replaces the rules of a role. */ -}}
{{- define "jiemi.patch" -}}
  {{- $object := .change.object -}}
  {{- if and (eq .patch.kind $object.kind) (eq .patch.metadata.name $object.metadata.name) -}}
    {{- if eq (index .patch "$patch" | default "") "delete" -}}
      {{- $_ := set .change "drop" (not $object.metadata.namespace) -}}
    {{- else -}}
      {{- $_ := set $object "rules" .patch.rules -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- define "jiemi.change" -}}
  {{- $object := .object -}}
  {{- $values := .root.Values -}}
  {{- $name := $object.metadata.name -}}
  {{- if eq $object.kind "Namespace" -}}
    {{- $_ := set $object.metadata "name" .root.Release.Namespace -}}
    {{- $_ := set . "drop" (not $values.createNamespace) -}}
  {{- else if eq $object.kind "CustomResourceDefinition" -}}
    {{- $_ := set $object.metadata "annotations" (dict "helm.sh/resource-policy" "keep") -}}
    {{- $_ := set . "drop" (not $values.crds.install) -}}
  {{- else if eq $object.kind "NetworkPolicy" -}}
    {{- $_ := set . "drop" (not $values.networkPolicy.enabled) -}}
  {{- else if and (eq $object.kind "ConfigMap") (eq $name "krapao-ssh-known-hosts") -}}
    {{- include "jiemi.knownHosts" . -}}
  {{- else if eq $object.kind "ServiceAccount" -}}
    {{- $part := eq $name "miwen" | ternary $values.miwen $values.krapao -}}
    {{- include "jiemi.addTo" (dict "to" $object.metadata "key" "annotations" "more" $part.serviceAccountAnnotations) -}}
  {{- else if and (has $object.kind (list "Role" "RoleBinding")) (eq $name "miwen-certificates") -}}
    {{- include "jiemi.certificateRights" . -}}
  {{- else if has $object.kind (list "StatefulSet" "Deployment") -}}
    {{- include "jiemi.workload" . -}}
  {{- else if has $object.kind (list "PodMonitor" "PrometheusRule") -}}
    {{- include "jiemi.addTo" (dict "to" $object.metadata "key" "labels" "more" $values.metrics.labels) -}}
  {{- else if and (eq $object.kind "ClusterRole") (eq $name "jiemi-miwen-impersonation") -}}
    {{- range $object.rules -}}
      {{- $_ := set . "resourceNames" (list $values.applyAs) -}}
    {{- end -}}
  {{- end -}}
  {{- if eq ($object.metadata.namespace | default "") "jiemi" -}}
    {{- $_ := set $object.metadata "namespace" .root.Release.Namespace -}}
  {{- end -}}
  {{- range $object.subjects -}}
    {{- $_ := set . "namespace" $.root.Release.Namespace -}}
  {{- end -}}
  {{- include "jiemi.addTo" (dict "to" $object.metadata "key" "labels" "more" $values.commonLabels) -}}
  {{- include "jiemi.addTo" (dict "to" $object.metadata "key" "annotations" "more" $values.commonAnnotations) -}}
{{- end -}}

{{- /* Entries of a mapping, where there are some to add. What is there stays: selectors name it. */ -}}
{{- define "jiemi.addTo" -}}
  {{- if .more -}}
    {{- $_ := set .to .key (merge (index .to .key | default dict) .more) -}}
  {{- end -}}
{{- end -}}

{{- define "jiemi.knownHosts" -}}
  {{- with .root.Values.krapao.knownHosts -}}
    {{- $data := $.object.data -}}
    {{- $_ := set $data "ssh_known_hosts" (printf "%s%s\n" $data.ssh_known_hosts (trimSuffix "\n" .)) -}}
  {{- end -}}
{{- end -}}

{{- /* Who does not make the certificates only reads its own. */ -}}
{{- define "jiemi.certificateRights" -}}
  {{- $madeBy := .root.Values.tls.madeBy -}}
  {{- $_ := set . "drop" (eq $madeBy "nobody") -}}
  {{- if and (eq .object.kind "Role") (has $madeBy (list "cert-manager" "others")) -}}
    {{- $rule := dict "apiGroups" (list "") "resources" (list "secrets") "resourceNames" (list "miwen-tls") "verbs" (list "get") -}}
    {{- $_ := set .object "rules" (list $rule) -}}
  {{- end -}}
{{- end -}}

{{- define "jiemi.workload" -}}
  {{- $values := .root.Values -}}
  {{- $isMiwen := eq .object.kind "Deployment" -}}
  {{- $part := $isMiwen | ternary $values.miwen $values.krapao -}}
  {{- $spec := .object.spec -}}
  {{- $template := $spec.template -}}
  {{- $pod := $template.spec -}}
  {{- $container := index $pod.containers 0 -}}
  {{- if not (kindIs "invalid" $part.replicas) -}}
    {{- $_ := set $spec "replicas" $part.replicas -}}
  {{- end -}}
  {{- include "jiemi.image" (dict "container" $container "image" $part.image) -}}
  {{- with $part.resources -}}
    {{- $_ := set $container "resources" (mergeOverwrite $container.resources .) -}}
  {{- end -}}
  {{- with $part.env -}}
    {{- $_ := set $container "env" (concat ($container.env | default list) .) -}}
  {{- end -}}
  {{- include "jiemi.addTo" (dict "to" $template.metadata "key" "labels" "more" $part.podLabels) -}}
  {{- include "jiemi.addTo" (dict "to" $template.metadata "key" "annotations" "more" $part.podAnnotations) -}}
  {{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
    {{- with index $part $field -}}
      {{- $_ := set $pod $field . -}}
    {{- end -}}
  {{- end -}}
  {{- with $values.imagePullSecrets -}}
    {{- $_ := set $pod "imagePullSecrets" . -}}
  {{- end -}}
  {{- $to := dict "root" .root "template" $template "pod" $pod "container" $container -}}
  {{- if $isMiwen -}}
    {{- include "jiemi.ofMiwen" $to -}}
  {{- else -}}
    {{- include "jiemi.ofKrapao" $to -}}
    {{- include "jiemi.storage" (dict "claim" (index $spec.volumeClaimTemplates 0).spec "storage" $part.storage) -}}
  {{- end -}}
  {{- $_ := set $container "args" (concat $container.args $part.extraArgs) -}}
{{- end -}}

{{- define "jiemi.image" -}}
  {{- $repository := .image.repository | default (regexReplaceAll ":[^:]*$" .container.image "") -}}
  {{- $tag := .image.tag | default (regexFind "[^:]*$" .container.image) -}}
  {{- $name := empty .image.digest | ternary (printf "%s:%s" $repository $tag) (printf "%s@%s" $repository .image.digest) -}}
  {{- $_ := set .container "image" $name -}}
  {{- with .image.pullPolicy -}}
    {{- $_ := set $.container "imagePullPolicy" . -}}
  {{- end -}}
{{- end -}}

{{- define "jiemi.storage" -}}
  {{- with .storage.size -}}
    {{- $_ := set $.claim.resources.requests "storage" . -}}
  {{- end -}}
  {{- with .storage.storageClassName -}}
    {{- $_ := set $.claim "storageClassName" . -}}
  {{- end -}}
{{- end -}}

{{- /* Take away the arguments that match, and put others in: `to`, `without` (a regular expression), `more`. */ -}}
{{- define "jiemi.args" -}}
  {{- $kept := list -}}
  {{- range .to.container.args -}}
    {{- if not (and $.without (regexMatch $.without .)) -}}
      {{- $kept = append $kept . -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set .to.container "args" (concat $kept .more) -}}
{{- end -}}

{{- /* Mount a volume: `to`, `volume` (its name and what it is of), `path`. */ -}}
{{- define "jiemi.mount" -}}
  {{- $mount := dict "name" .volume.name "mountPath" .path "readOnly" true -}}
  {{- $_ := set .to.pod "volumes" (append .to.pod.volumes .volume) -}}
  {{- $_ := set .to.container "volumeMounts" (append .to.container.volumeMounts $mount) -}}
{{- end -}}

{{- define "jiemi.ofMiwen" -}}
  {{- $values := .root.Values -}}
  {{- range $values.namespaces -}}
    {{- include "jiemi.args" (dict "to" $ "without" "" "more" (list (printf "--namespace=%s" .))) -}}
  {{- end -}}
  {{- if eq $values.form "impersonation" -}}
    {{- include "jiemi.args" (dict "to" . "without" "" "more" (list (printf "--default-service-account=%s" $values.applyAs))) -}}
  {{- end -}}
  {{- if eq $values.tls.madeBy "nobody" -}}
    {{- include "jiemi.args" (dict "to" . "without" "^--(tls-secret=.*|make-certificates)$" "more" (list "--insecure-plain-tcp")) -}}
  {{- else if ne $values.tls.madeBy "miwen" -}}
    {{- include "jiemi.args" (dict "to" . "without" "^--make-certificates$" "more" list) -}}
  {{- end -}}
  {{- with $values.sessionSecret.name -}}
    {{- include "jiemi.args" (dict "to" $ "without" "" "more" (list (printf "--session-secret=%s" .))) -}}
  {{- end -}}
  {{- if $values.webhooks.enabled -}}
    {{- $port := dict "name" "webhooks" "containerPort" 8080 "protocol" "TCP" -}}
    {{- $_ := set .container "ports" (append .container.ports $port) -}}
    {{- $env := dict "name" "POD_IP" "valueFrom" (dict "fieldRef" (dict "fieldPath" "status.podIP")) -}}
    {{- $_ := set .container "env" (prepend (.container.env | default list) $env) -}}
    {{- $args := list "--webhooks-listen=*:8080" "--webhooks-address=$(POD_IP)" (printf "--webhooks-proxies=%d" (int $values.webhooks.proxies)) -}}
    {{- include "jiemi.args" (dict "to" . "without" "" "more" $args) -}}
  {{- end -}}
  {{- with $values.miwen.policy -}}
    {{- include "jiemi.mount" (dict "to" $ "volume" (dict "name" "policy" "configMap" (dict "name" "miwen-policy")) "path" "/etc/miwen") -}}
    {{- include "jiemi.args" (dict "to" $ "without" "" "more" (list "--policy=/etc/miwen/policy.yaml")) -}}
    {{- /* Miwen reads it when it starts. */ -}}
    {{- include "jiemi.addTo" (dict "to" $.template.metadata "key" "annotations" "more" (dict "checksum/policy" (sha256sum .))) -}}
  {{- end -}}
{{- end -}}

{{- define "jiemi.ofKrapao" -}}
  {{- $values := .root.Values -}}
  {{- if eq $values.tls.madeBy "nobody" -}}
    {{- include "jiemi.args" (dict "to" . "without" "^--tls-dir=.*$" "more" (list "--insecure-plain-tcp")) -}}
    {{- range $at, $field := dict "pod" "volumes" "container" "volumeMounts" -}}
      {{- $kept := list -}}
      {{- range (index $ $at $field) -}}
        {{- if ne .name "tls" -}}
          {{- $kept = append $kept . -}}
        {{- end -}}
      {{- end -}}
      {{- $_ := set (index $ $at) $field $kept -}}
    {{- end -}}
  {{- end -}}
  {{- with $values.sessionSecret.name -}}
    {{- $secret := dict "secretName" . "defaultMode" 288 -}}
    {{- include "jiemi.mount" (dict "to" $ "volume" (dict "name" "session" "secret" $secret) "path" "/etc/krapao-session") -}}
    {{- include "jiemi.args" (dict "to" $ "without" "" "more" (list "--session-secret-file=/etc/krapao-session/token")) -}}
  {{- end -}}
{{- end -}}
