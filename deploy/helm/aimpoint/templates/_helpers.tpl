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
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
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

{{/* The environment of the container: the brokers and the identity of the pod. */}}
{{- define "aimpoint.env" -}}
{{- $kafka := .Values.kafka -}}
- name: AIMPOINT__KAFKA__BROKERS
  value: {{ $kafka.brokers | quote }}
- name: AIMPOINT__APP__INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: AIMPOINT__APP__STATIC_MEMBERSHIP
  value: "true"
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
{{- if not (or (include "aimpoint.key" (dict "section" "engine" "key" "workers" "values" .Values)) (include "aimpoint.hasVariable" (dict "name" "AIMPOINT__ENGINE__WORKERS" "values" .Values))) }}
# Without a CPU limit, the pod would count the cores of the node. Use its CPU request, rounded up.
- name: AIMPOINT__ENGINE__WORKERS
  valueFrom:
    resourceFieldRef:
      resource: requests.cpu
      divisor: "1"
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* No privileges: an unprivileged user and a read-only file system. */}}
{{- define "aimpoint.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
