{{/* The names of the release's objects. 52 characters leave room for what a StatefulSet appends. */}}
{{- define "aimpoint.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels for selectors. They never change. */}}
{{- define "aimpoint.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "aimpoint.labels" -}}
{{ include "aimpoint.selector" . }}
{{ include "aimpoint.release" . }}
{{- end -}}

{{- define "aimpoint.release" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The same of control. Its pods have another name, so that nothing that selects the workers selects them. */}}
{{- define "aimpoint.control.name" -}}
{{- include "aimpoint.name" . }}-control
{{- end -}}

{{- define "aimpoint.control.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-control
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "aimpoint.control.labels" -}}
{{ include "aimpoint.control.selector" . }}
{{ include "aimpoint.release" . }}
{{- end -}}

{{/* The same of serve. */}}
{{- define "aimpoint.serve.name" -}}
{{- include "aimpoint.name" . }}-serve
{{- end -}}

{{- define "aimpoint.serve.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-serve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "aimpoint.serve.labels" -}}
{{ include "aimpoint.serve.selector" . }}
{{ include "aimpoint.release" . }}
{{- end -}}

{{- define "aimpoint.image" -}}
{{- $suffix := ternary "-cuda" "" .Values.cuda.enabled -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s%s" .Chart.AppVersion $suffix) -}}
{{- end -}}

{{/* The value of a key in the environment or the configuration, as a string. Takes section, key and values. Empty if the key is
not set, or comes from a Secret. */}}
{{- define "aimpoint.key" -}}
{{- $variable := printf "AIMPOINT__%s__%s" (upper .section) (upper .key) -}}
{{- $found := dict -}}
{{- range .values.env -}}
{{- if eq .name $variable -}}
{{- $_ := set $found "value" (default "" .value) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $found "value") -}}
{{- $pattern := printf "(?m)^[ \\t]*\\[[ \\t]*%s[ \\t]*\\][^\\n]*\\n(?:(?:[ \\t]*|[ \\t]*[^\\[ \\t\\n][^\\n]*)\\n)*?[ \\t]*%s[ \\t]*=[ \\t]*[\"']?([^\"'#\\n]*[^\"'#\\s])" .section .key -}}
{{- $text := regexFind $pattern (printf "%s\n" .values.config) -}}
{{- if $text -}}
{{- $_ := set $found "value" (regexReplaceAll $pattern $text "${1}") -}}
{{- end -}}
{{- end -}}
{{- get $found "value" -}}
{{- end -}}

{{/* Whether env contains a variable. */}}
{{- define "aimpoint.hasVariable" -}}
{{- $name := .name -}}
{{- range .values.env -}}
{{- if eq .name $name -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* app.name, which is the consumer group. */}}
{{- define "aimpoint.app" -}}
{{- include "aimpoint.key" (dict "section" "app" "key" "name" "values" .Values) | default "aimpoint" -}}
{{- end -}}

{{/* One variable from a Secret. */}}
{{- define "aimpoint.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{/* A variable with the pod's CPU request, rounded up. Without a CPU limit, the pod would count the cores of the node. */}}
{{- define "aimpoint.cpusEnv" -}}
- name: {{ . }}
  valueFrom:
    resourceFieldRef:
      resource: requests.cpu
      divisor: "1"
{{- end -}}

{{/* The environment of a container: the brokers and the identity of the pod. Takes Values and, for a role beside the workers,
role, which has its values: it may have a Kafka user of its own, and has no workers. */}}
{{- define "aimpoint.env" -}}
{{- $kafka := .Values.kafka -}}
{{- if .role -}}
{{- $kafka = mergeOverwrite (deepCopy .Values.kafka) (default (dict) .role.kafka) -}}
{{- end -}}
- name: AIMPOINT__KAFKA__BROKERS
  value: {{ $kafka.brokers | quote }}
- name: AIMPOINT__APP__INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if not .role }}
- name: AIMPOINT__APP__STATIC_MEMBERSHIP
  value: "true"
{{- end }}
{{- if or $kafka.tls.enabled $kafka.sasl.mechanism }}
- name: AIMPOINT__KAFKA__CLIENT__SECURITY_PROTOCOL
  value: {{ printf "%s%s" (ternary "SASL_" "" (ne $kafka.sasl.mechanism "")) (ternary "SSL" "PLAINTEXT" $kafka.tls.enabled) }}
{{- end }}
{{- if $kafka.tls.enabled }}
{{- with $kafka.tls.caSecret }}
{{ include "aimpoint.secretEnv" (dict "name" "AIMPOINT__KAFKA__CLIENT__SSL_CA_PEM" "secret" . "key" $kafka.tls.caKey) }}
{{- end }}
{{- with $kafka.tls.clientSecret }}
{{ include "aimpoint.secretEnv" (dict "name" "AIMPOINT__KAFKA__CLIENT__SSL_CERTIFICATE_PEM" "secret" . "key" $kafka.tls.clientCertKey) }}
{{ include "aimpoint.secretEnv" (dict "name" "AIMPOINT__KAFKA__CLIENT__SSL_KEY_PEM" "secret" . "key" $kafka.tls.clientKeyKey) }}
{{- end }}
{{- end }}
{{- if $kafka.sasl.mechanism }}
- name: AIMPOINT__KAFKA__CLIENT__SASL_MECHANISM
  value: {{ $kafka.sasl.mechanism }}
- name: AIMPOINT__KAFKA__CLIENT__SASL_USERNAME
  value: {{ required "kafka.sasl.username: a mechanism needs a user" $kafka.sasl.username | quote }}
{{ include "aimpoint.secretEnv" (dict "name" "AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD" "secret" (required "kafka.sasl.passwordSecret: a mechanism needs a password" $kafka.sasl.passwordSecret) "key" $kafka.sasl.passwordKey) }}
{{- end }}
{{- with .Values.metrics.tokenSecret }}
{{ include "aimpoint.secretEnv" (dict "name" "AIMPOINT__ADMIN__TOKEN" "secret" . "key" $.Values.metrics.tokenKey) }}
{{- end }}
{{- if not (or .role (include "aimpoint.key" (dict "section" "engine" "key" "workers" "values" .Values)) (include "aimpoint.hasVariable" (dict "name" "AIMPOINT__ENGINE__WORKERS" "values" .Values))) }}
{{ include "aimpoint.cpusEnv" "AIMPOINT__ENGINE__WORKERS" }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The pod's user: unprivileged. */}}
{{- define "aimpoint.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The probes of a container. Takes probes. */}}
{{- define "aimpoint.probes" -}}
startupProbe:
  httpGet:
    path: {{ .probes.liveness.path }}
    port: metrics
  periodSeconds: 5
  failureThreshold: {{ div (add .probes.startupSeconds 4) 5 }}
livenessProbe:
  httpGet:
    path: {{ .probes.liveness.path }}
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: {{ .probes.readiness.path }}
    port: metrics
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* What a NetworkPolicy allows: the metrics port in, DNS and the brokers out. Takes Values and, for serve, bidders: whether
bidders may ask. */}}
{{- define "aimpoint.traffic" -}}
policyTypes: [Ingress, Egress]
ingress:
  - ports:
      - port: {{ .Values.metrics.port }}
        protocol: TCP
    from:
      {{- if .Values.networkPolicy.metricsFrom }}
      {{- toYaml .Values.networkPolicy.metricsFrom | nindent 6 }}
      {{- else }}
      - podSelector: {}
      {{- end }}
  {{- if .bidders }}
  # Bidders.
  - ports:
      - port: {{ .Values.serve.port }}
        protocol: TCP
      {{- if .Values.serve.grpc.enabled }}
      - port: {{ .Values.serve.grpc.port }}
        protocol: TCP
      {{- end }}
    from:
      {{- if .Values.networkPolicy.biddersFrom }}
      {{- toYaml .Values.networkPolicy.biddersFrom | nindent 6 }}
      {{- else }}
      - podSelector: {}
      {{- end }}
  {{- end }}
egress:
  # DNS.
  - ports:
      - port: 53
        protocol: UDP
      - port: 53
        protocol: TCP
  # The brokers.
  - ports:
      {{- range .Values.networkPolicy.kafkaPorts }}
      - port: {{ . }}
        protocol: TCP
      {{- end }}
    {{- with .Values.networkPolicy.kafkaTo }}
    to:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- with .Values.networkPolicy.egress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* How Prometheus scrapes a pod. */}}
{{- define "aimpoint.endpoint" -}}
port: metrics
path: /metrics
interval: {{ .Values.metrics.serviceMonitor.interval }}
{{- if .Values.metrics.tokenSecret }}
authorization:
  type: Bearer
  credentials:
    name: {{ .Values.metrics.tokenSecret }}
    key: {{ .Values.metrics.tokenKey }}
{{- else if or (include "aimpoint.key" (dict "section" "admin" "key" "token" "values" .Values)) (include "aimpoint.hasVariable" (dict "name" "AIMPOINT__ADMIN__TOKEN" "values" .Values)) }}
{{- fail "metrics.tokenSecret: admin.token is set, and Prometheus has to show it as well; name the Secret that holds it here, and leave it out of config and env" }}
{{- end }}
{{- end -}}

{{/* No privileges: an unprivileged user and a read-only file system. */}}
{{- define "aimpoint.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
