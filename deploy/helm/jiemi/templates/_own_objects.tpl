{{- /* Objects that deploy/ has not by itself, as a list; docs/operations.md and docs/decryption.md have them for Kustomize. */ -}}
{{- define "jiemi.ownObjects" -}}
{{- $part := dict "app.kubernetes.io/part-of" "jiemi" -}}
{{- with .Values.miwen.policy }}
- apiVersion: v1
  kind: ConfigMap
  metadata:
    name: miwen-policy
    namespace: jiemi
    labels: {{ toJson $part }}
  data:
    policy.yaml: {{ toJson . }}
{{- end }}
{{- with .Values.sessionSecret.name }}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata:
    name: miwen-session-secret
    namespace: jiemi
    labels: {{ toJson $part }}
  rules:
    - apiGroups: [""]
      resources: [secrets]
      resourceNames: [{{ toJson . }}]
      verbs: [get]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata:
    name: miwen-session-secret
    namespace: jiemi
    labels: {{ toJson $part }}
  roleRef:
    apiGroup: rbac.authorization.k8s.io
    kind: Role
    name: miwen-session-secret
  subjects:
    - kind: ServiceAccount
      name: miwen
      namespace: jiemi
{{- end }}
{{- if eq .Values.tls.madeBy "cert-manager" }}
{{- range $name, $usage := dict "krapao" "server auth" "miwen" "client auth" }}
- apiVersion: cert-manager.io/v1
  kind: Certificate
  metadata:
    name: {{ $name }}-tls
    namespace: jiemi
    labels: {{ toJson $part }}
  spec:
    secretName: {{ $name }}-tls
    dnsNames: [{{ $name }}]
    usages: [{{ $usage }}]
    duration: 720h
    privateKey:
      algorithm: ECDSA
      size: 256
      rotationPolicy: Always
    issuerRef: {{ toJson $.Values.tls.issuerRef }}
{{- end }}
{{- end }}
{{- if .Values.metrics.dashboard.enabled }}
- apiVersion: v1
  kind: ConfigMap
  metadata:
    name: jiemi-dashboard
    namespace: jiemi
    labels:
      app.kubernetes.io/part-of: jiemi
      grafana_dashboard: "1"
  data:
    jiemi.json: {{ toJson (.Files.Get "files/monitoring/dashboard.json") }}
{{- end }}
{{- end -}}
