{{- define "modelrollout.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "modelrollout.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "modelrollout.labels" -}}
{{ include "modelrollout.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "modelrollout.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "modelrollout.fullname" .) -}}
{{- end -}}

{{- define "modelrollout.image" -}}
{{- $repository := required "image.repository must be given: the image of the operator" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "modelrollout.settings" -}}
{{- $filled := dict "operatorImage" (include "modelrollout.image" .) -}}
{{- toYaml (merge (dict) .Values.settings $filled) -}}
{{- end -}}

{{- define "modelrollout.metricsPort" -}}{{ .Values.settings.metricsPort | default 9100 }}{{- end -}}
{{- define "modelrollout.healthPort" -}}{{ .Values.settings.healthPort | default 8080 }}{{- end -}}
{{- define "modelrollout.leaseName" -}}{{ (.Values.settings.lease | default dict).name | default "modelrollout" }}{{- end -}}
{{- define "modelrollout.leaseNamespace" -}}
{{- (.Values.settings.lease | default dict).namespace | default .Release.Namespace -}}
{{- end -}}

{{/* What the operator does in a namespace it looks after, and nothing more. It reads no Secret. */}}
{{- define "modelrollout.rules" -}}
- apiGroups: [modelrollout.io]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [modelrollout.io]
  resources: [rolloutpolicies]
  verbs: [list, watch]
- apiGroups: [modelrollout.io]
  resources: [modeldeployments/status, modelrevisions/status]
  verbs: [patch]
- apiGroups: [modelrollout.io]
  resources: [modelrevisions]
  verbs: [list, watch, get, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, get, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, get, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, get, create, patch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes, grpcroutes]
  verbs: [list, watch, get, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Golden sets and profiles: the one that a ModelDeployment names is read when its gates run.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- define "modelrollout.observerSelector" -}}
app.kubernetes.io/name: modelrollout-observer
app.kubernetes.io/component: observer
{{- end -}}

{{- define "modelrollout.observerLabels" -}}
{{ include "modelrollout.observerSelector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "modelrollout.observerImage" -}}
{{- $own := .Values.observer.image -}}
{{- if not $own.repository -}}
{{- include "modelrollout.image" . -}}
{{- else if $own.digest -}}
{{- printf "%s@%s" $own.repository $own.digest -}}
{{- else -}}
{{- printf "%s:%s" $own.repository ($own.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
