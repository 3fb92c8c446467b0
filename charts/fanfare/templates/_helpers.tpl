{{- define "fanfare.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* At most 40 characters, so that every suffix fits into a name of 63. */}}
{{- define "fanfare.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "fanfare.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "fanfare.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "fanfare.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "fanfare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: fanfare
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Called with a dict of root and component. */}}
{{- define "fanfare.selector" -}}
app.kubernetes.io/name: {{ include "fanfare.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "fanfare.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "fanfare.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "fanfare.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "fanfare.peers" -}}{{ include "fanfare.fullname" . }}-peers{{- end }}
{{- define "fanfare.operator" -}}{{ include "fanfare.fullname" . }}-operator{{- end }}
{{- define "fanfare.serviceHost" -}}{{ include "fanfare.fullname" . }}.{{ .Release.Namespace }}.svc{{- end }}

{{- define "fanfare.operatorAddress" -}}
{{- .Values.operator.address | default (printf "%s:%v" (include "fanfare.serviceHost" .) .Values.broker.service.port) }}
{{- end }}

{{- define "fanfare.brokerSecret" -}}
{{- if eq .Values.tls.mode "existingSecret" }}{{ .Values.tls.existingSecret.broker }}{{ else }}{{ include "fanfare.fullname" . }}-tls{{ end }}
{{- end }}

{{- define "fanfare.operatorSecret" -}}
{{- if eq .Values.tls.mode "existingSecret" }}{{ .Values.tls.existingSecret.operator }}{{ else }}{{ include "fanfare.operator" . }}-tls{{ end }}
{{- end }}

{{- /* The first one is also the broker's principal when there is no URI in the certificate. */}}
{{- define "fanfare.brokerDnsNames" -}}
{{- $service := include "fanfare.fullname" . }}
{{- $host := include "fanfare.serviceHost" . }}
{{- $peers := printf "*.%s.%s.svc" (include "fanfare.peers" .) .Release.Namespace }}
{{- $names := list $host $service (printf "%s.%s" $service .Release.Namespace) (printf "%s.%s" $host .Values.clusterDomain) $peers (printf "%s.%s" $peers .Values.clusterDomain) "localhost" }}
{{- toYaml (concat $names .Values.tls.extraDnsNames) }}
{{- end }}

{{- define "fanfare.brokerPrincipals" -}}
{{- if .Values.tls.brokerPrincipals }}{{ .Values.tls.brokerPrincipals }}
{{- else if eq .Values.tls.mode "selfSigned" }}dns:{{ include "fanfare.serviceHost" . }}
{{- else }}spiffe://fanfare/broker/*
{{- end }}
{{- end }}

{{- define "fanfare.operatorDnsNames" -}}
{{- $name := include "fanfare.operator" . }}
{{- toYaml (list (printf "%s.%s.svc" $name .Release.Namespace) $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc.%s" $name .Release.Namespace .Values.clusterDomain)) }}
{{- end }}

{{- /* What the schema can't say. Included by every workload, so that nothing is installed by halves. */}}
{{- define "fanfare.check" -}}
{{- if and .Values.broker.enabled (gt (int .Values.broker.replicas) 1) (not .Values.redis.url) }}
{{- fail "broker.replicas is above 1, and the embedded store belongs to one broker: set redis.url, or broker.replicas=1" }}
{{- end }}
{{- if and (eq .Values.tls.mode "existingSecret") .Values.broker.enabled (not .Values.tls.existingSecret.broker) }}
{{- fail "tls.mode is existingSecret: name the Secret with the brokers' certificate in tls.existingSecret.broker" }}
{{- end }}
{{- if and (eq .Values.tls.mode "existingSecret") .Values.operator.enabled (not .Values.tls.existingSecret.operator) }}
{{- fail "tls.mode is existingSecret: name the Secret with the operator's certificate in tls.existingSecret.operator" }}
{{- end }}
{{- if and (eq .Values.tls.mode "certManager") (not .Values.tls.certManager.issuerRef.name) }}
{{- fail "tls.mode is certManager: name the Issuer in tls.certManager.issuerRef.name" }}
{{- end }}
{{- if and .Values.operator.enabled (not .Values.broker.enabled) (not .Values.operator.address) }}
{{- fail "broker.enabled is false: say in operator.address which broker the operator uses" }}
{{- end }}
{{- if and .Values.redis.tlsSecret (not (contains "rediss" .Values.redis.url)) }}
{{- fail "redis.tlsSecret is set, and redis.url is not of a rediss scheme: use rediss://, or leave tlsSecret out" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.metrics) }}
{{- fail "metrics.serviceMonitor.enabled is true, and networkPolicy.metrics lets nobody scrape: say there who may, such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" }}
{{- end }}
{{- range $name := list "listen" "advertise" "name" "store" "data-dir" "tls-cert" "tls-key" "tls-ca" "broker-principals" "health-listen" "metrics-listen" "metrics-token-file" "drain-timeout" "insecure-plaintext" "init-cluster" "cluster-id" }}
{{- if hasKey $.Values.broker.options $name }}
{{- fail (printf "broker.options.%s is set by the chart: use the chart's own value for it" $name) }}
{{- end }}
{{- end }}
{{- end }}
