{{- /* Names are fixed, not made from the release's: a cluster has one mesh. */}}
{{- define "mizzen.name" -}}mizzen-controller{{- end }}

{{- define "mizzen.selector" -}}
app.kubernetes.io/name: mizzen-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mizzen.labels" -}}
{{ include "mizzen.selector" . }}
app.kubernetes.io/part-of: mizzen
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* image of a values block: (list $ .Values.controller.image) */}}
{{- define "mizzen.image" -}}
{{- $root := index . 0 }}{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- define "mizzen.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end }}

{{- define "mizzen.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* The mesh configuration: values.mesh, and what only the release knows. */}}
{{- define "mizzen.meshConfig" -}}
{{- $mesh := deepCopy .Values.mesh }}
{{- $address := printf "%s.%s.svc.%s:15010" (include "mizzen.name" .) .Release.Namespace $mesh.clusterDomain }}
{{- $_ := set $mesh "apiVersion" "mizzen.dev/v1alpha1" }}
{{- $_ := set $mesh "kind" "MeshConfig" }}
{{- $_ := set $mesh "controlPlaneAddress" ($mesh.controlPlaneAddress | default $address) }}
{{- $_ := set $mesh.sidecar "image" (include "mizzen.image" (list $ .Values.proxy.image)) }}
{{- $_ := set $mesh.sidecar "imagePullPolicy" .Values.proxy.image.pullPolicy }}
{{- toYaml $mesh }}
{{- end }}
