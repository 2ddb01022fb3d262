{{- /*
Values that nobody has said take their defaults. `helm upgrade --reuse-values` gives a chart the values of the
older one, without those that are new, and a null takes any of them away. Every template begins with this.
Resources are left: without them there are none, as everywhere in Kubernetes.
*/}}
{{- define "mizzen.defaults" -}}
{{- include "mizzen.fill" (list .Values (.Files.Get "defaults.yaml" | fromYaml)) }}
{{- end }}

{{- /* fill values with what of defaults they lack: (list $values $defaults) */}}
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
