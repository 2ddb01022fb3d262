{{- /*
Fills missing values with their defaults. `helm upgrade --reuse-values` passes the values of the older chart,
which lacks new ones, and a null removes any value. Every template includes this first.
Resources are left alone: missing resources mean none, as everywhere in Kubernetes.
*/}}
{{- define "mizzen.defaults" -}}
{{- include "mizzen.fill" (list .Values (.Files.Get "defaults.yaml" | fromYaml)) }}
{{- end }}

{{- /* Sets each default that the values lack: (list $values $defaults) */}}
{{- define "mizzen.fill" -}}
{{- $values := index . 0 }}
{{- range $key, $default := index . 1 }}
{{- $missing := kindIs "invalid" (index $values $key) }}
{{- if eq $key "resources" }}
{{- else if kindIs "map" $default }}
{{- if $missing }}{{ $_ := set $values $key dict }}{{ end }}
{{- if kindIs "map" (get $values $key) }}
{{- include "mizzen.fill" (list (get $values $key) $default) }}
{{- end }}
{{- else if $missing }}
{{- $_ := set $values $key $default }}
{{- end }}
{{- end }}
{{- end }}
