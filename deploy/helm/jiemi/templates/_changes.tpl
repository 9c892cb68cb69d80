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
  {{- $proxy := .Values.krapao.proxy -}}
  {{- if and $proxy.url $proxy.secretName -}}
    {{- fail "krapao.proxy: give url or secretName, not both" -}}
  {{- end -}}
  {{- if contains "@" $proxy.url -}}
    {{- fail "krapao.proxy.url: arguments are visible to everybody who may read the Pod; put a URL with a user name into a Secret, and its name into krapao.proxy.secretName" -}}
  {{- end -}}
  {{- if and (eq $proxy.scope "git") (hasPrefix "https:" $proxy.url) -}}
    {{- fail "krapao.proxy.url: ssh needs a proxy with http:// or socks5://; for https:// set krapao.proxy.scope: http" -}}
  {{- end -}}
  {{- if and $proxy.noProxy (not (or $proxy.url $proxy.secretName)) -}}
    {{- fail "krapao.proxy.noProxy: there is no proxy; set krapao.proxy.url or secretName" -}}
  {{- end -}}
  {{- $hooks := .Values.webhooks -}}
  {{- if and (not $hooks.enabled) (or $hooks.allowAddresses $hooks.denyAddresses $hooks.caBundle.configMapName) -}}
    {{- fail "webhooks: allowAddresses, denyAddresses and caBundle are for webhooks.enabled" -}}
  {{- end -}}
  {{- if and (not .Values.traces.endpoint) (or .Values.traces.caBundle.configMapName (not (kindIs "invalid" .Values.traces.ratio))) -}}
    {{- fail "traces: ratio and caBundle are for traces.endpoint" -}}
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
  {{- include "jiemi.ofBoth" $to -}}
  {{- with $part.extraVolumes -}}
    {{- $_ := set $pod "volumes" (concat $pod.volumes .) -}}
  {{- end -}}
  {{- with $part.extraVolumeMounts -}}
    {{- $_ := set $container "volumeMounts" (concat $container.volumeMounts .) -}}
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

{{- /* A flag for each of some values: `to`, `flag`, `values`. */ -}}
{{- define "jiemi.repeated" -}}
  {{- range .values -}}
    {{- include "jiemi.args" (dict "to" $.to "without" "" "more" (list (printf "%s=%s" $.flag .))) -}}
  {{- end -}}
{{- end -}}

{{- /* Flags that have no value: `to`, `part`, `flags`, a dict of flags by the names of their values. */ -}}
{{- define "jiemi.switches" -}}
  {{- range $name, $flag := .flags -}}
    {{- if index $.part $name -}}
      {{- include "jiemi.args" (dict "to" $.to "without" "" "more" (list $flag)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- /* Mount certificate authorities: `to`, `name` of the volume, `bundle`, `flag`. */ -}}
{{- define "jiemi.caBundle" -}}
  {{- with .bundle.configMapName -}}
    {{- $path := printf "/etc/%s" $.name -}}
    {{- include "jiemi.mount" (dict "to" $.to "volume" (dict "name" $.name "configMap" (dict "name" .)) "path" $path) -}}
    {{- include "jiemi.repeated" (dict "to" $.to "flag" $.flag "values" (list (printf "%s/%s" $path $.bundle.key))) -}}
  {{- end -}}
{{- end -}}

{{- define "jiemi.ofBoth" -}}
  {{- $values := .root.Values -}}
  {{- with $values.logs.levels -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" "--log-level" "values" (list .)) -}}
  {{- end -}}
  {{- with $values.logs.configMapName -}}
    {{- $volume := dict "name" "log" "configMap" (dict "name" . "optional" true) -}}
    {{- include "jiemi.mount" (dict "to" $ "volume" $volume "path" "/etc/jiemi/log") -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" "--log-level-file" "values" (list (printf "/etc/jiemi/log/%s" $values.logs.key))) -}}
  {{- end -}}
  {{- with $values.traces.endpoint -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" "--traces-endpoint" "values" (list .)) -}}
  {{- end -}}
  {{- if not (kindIs "invalid" $values.traces.ratio) -}}
    {{- include "jiemi.repeated" (dict "to" . "flag" "--traces-ratio" "values" (list (toString $values.traces.ratio))) -}}
  {{- end -}}
  {{- include "jiemi.caBundle" (dict "to" . "name" "traces-ca" "bundle" $values.traces.caBundle "flag" "--traces-ca-bundle") -}}
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
    {{- include "jiemi.repeated" (dict "to" . "flag" "--webhooks-allow-address" "values" $values.webhooks.allowAddresses) -}}
    {{- include "jiemi.repeated" (dict "to" . "flag" "--webhooks-deny-address" "values" $values.webhooks.denyAddresses) -}}
    {{- include "jiemi.caBundle" (dict "to" . "name" "webhooks-ca" "bundle" $values.webhooks.caBundle "flag" "--webhooks-ca-bundle") -}}
  {{- end -}}
  {{- with $values.miwen.interval -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" "--interval" "values" (list .)) -}}
  {{- end -}}
  {{- $flags := dict "requireVerify" "--require-verify" "requireFullMac" "--require-full-mac" "noCrossNamespace" "--no-cross-namespace" -}}
  {{- include "jiemi.switches" (dict "to" . "part" $values.miwen "flags" $flags) -}}
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
  {{- $proxy := $values.krapao.proxy -}}
  {{- with $proxy.url -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" (printf "--%s-proxy" $proxy.scope) "values" (list .)) -}}
  {{- end -}}
  {{- with $proxy.secretName -}}
    {{- $secret := dict "secretName" . "defaultMode" 288 -}}
    {{- include "jiemi.mount" (dict "to" $ "volume" (dict "name" "proxy" "secret" $secret) "path" "/etc/krapao-proxy") -}}
    {{- $file := printf "/etc/krapao-proxy/%s" $proxy.secretKey -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" (printf "--%s-proxy-file" $proxy.scope) "values" (list $file)) -}}
  {{- end -}}
  {{- with $proxy.noProxy -}}
    {{- include "jiemi.repeated" (dict "to" $ "flag" "--no-proxy" "values" (list (join "," .))) -}}
  {{- end -}}
  {{- include "jiemi.caBundle" (dict "to" . "name" "git-ca" "bundle" $values.krapao.caBundle "flag" "--ca-bundle") -}}
  {{- include "jiemi.repeated" (dict "to" . "flag" "--allow-address" "values" $values.krapao.allowAddresses) -}}
  {{- include "jiemi.repeated" (dict "to" . "flag" "--deny-address" "values" $values.krapao.denyAddresses) -}}
  {{- include "jiemi.repeated" (dict "to" . "flag" "--allow-vault-address" "values" $values.krapao.allowVaultAddresses) -}}
  {{- include "jiemi.switches" (dict "to" . "part" $values.krapao "flags" (dict "requireVaultAddress" "--require-vault-address")) -}}
{{- end -}}
