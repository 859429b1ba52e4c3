{{- define "tidewater.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidewater.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "tidewater.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidewater.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidewater.selectorLabels" -}}
app.kubernetes.io/name: tidewater-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Without versions: a new chart alone restarts no pod. */}}
{{- define "tidewater.podLabels" -}}
{{ include "tidewater.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: tidewater
{{- end -}}

{{- define "tidewater.labels" -}}
{{ include "tidewater.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tidewater.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidewater.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tidewater.externalMetricsSecret" -}}
{{- default (printf "%s-metrics-tls" (include "tidewater.fullname" .)) .Values.externalMetrics.tls.existingSecret -}}
{{- end -}}

{{/* What the operator may do in a namespace whose resources it reconciles. */}}
{{- define "tidewater.rules" -}}
- apiGroups: [tidewater.dev]
  resources: [kafkas3sinks, icebergtables]
  verbs: [get, list, watch, patch]
- apiGroups: [tidewater.dev]
  resources: [kafkas3sinks/status, icebergtables/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.metrics.podMonitors.enabled }}
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
