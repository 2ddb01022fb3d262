{{- /*
Names are fixed, whatever the release is called: a cluster has one mesh. A revision, which is a control plane beside the main one, has names of its own.
*/}}
{{- define "mizzen.suffix" -}}{{ with .Values.revision }}-{{ . }}{{ end }}{{- end }}
{{- define "mizzen.name" -}}mizzen-controller{{ include "mizzen.suffix" . }}{{- end }}

{{- /* "true" in the main control plane where it serves Gateways. */}}
{{- define "mizzen.gateways" -}}{{ if and .Values.gateway.enabled (not .Values.revision) }}true{{ end }}{{- end }}

{{- define "mizzen.selector" -}}
app.kubernetes.io/name: mizzen-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .Values.revision }}
mizzen.dev/revision: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "mizzen.labels" -}}
{{ include "mizzen.selector" . }}
{{ include "mizzen.commonLabels" . }}
{{- end }}

{{- define "mizzen.commonLabels" -}}
app.kubernetes.io/part-of: mizzen
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The image of a values block: (list $ .Values.controller.image) */}}
{{- define "mizzen.image" -}}
{{- $root := index . 0 }}{{- $image := index . 1 -}}
{{- if and $image.digest $image.tag }}
{{- fail (printf "image %s: both tag %q and digest %q: want one of them" $image.repository $image.tag $image.digest) }}
{{- end }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
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

{{- /* The mesh configuration: values.mesh, and the fields that follow from the release. */}}
{{- define "mizzen.meshConfig" -}}
{{- include "mizzen.defaults" . }}
{{- $mesh := deepCopy .Values.mesh }}
{{- $address := printf "%s.%s.svc.%s:15010" (include "mizzen.name" .) .Release.Namespace $mesh.clusterDomain }}
{{- $_ := set $mesh "apiVersion" "mizzen.dev/v1alpha1" }}
{{- $_ := set $mesh "kind" "MeshConfig" }}
{{- $_ := set $mesh "controlPlaneAddress" ($mesh.controlPlaneAddress | default $address) }}
{{- $_ := set $mesh.sidecar "image" (include "mizzen.image" (list $ .Values.proxy.image)) }}
{{- $_ := set $mesh.sidecar "imagePullPolicy" .Values.proxy.image.pullPolicy }}
{{- if .Values.cni.enabled }}
{{- $_ := set $mesh "cni" (dict "enabled" true) }}
{{- end }}
{{- $gateway := deepCopy .Values.gateway }}
{{- with .Values.revision }}
{{- $_ := set $mesh "revision" . }}
{{- $_ := set $gateway "enabled" false }}
{{- end }}
{{- range list "affinity" "autoscaling" }}
{{- if not (index $gateway.defaults .) }}
{{- $_ := unset $gateway.defaults . }}
{{- end }}
{{- end }}
{{- $_ := set $mesh "gateway" $gateway }}
{{- toYaml $mesh }}
{{- end }}

{{- /*
A CEL list with a message for each annotation whose value package config refuses (test/chart compares both):
(list MAP ON). MAP is a CEL expression for the annotations, and ON is the kind of object that has them.
*/ -}}
{{- define "mizzen.keys.mistakes" -}}
{{- $map := index . 0 }}
{{- $ports := "(v.trim() == '' || v.split(',').all(p, p.trim().matches('^[0-9]{1,5}$') && int(p.trim()) >= 1 && int(p.trim()) <= 65535))" }}
{{- $cpu := "isQuantity(v) && quantity(v).isGreaterThan(quantity('0'))" }}
{{- $memory := "isQuantity(v) && quantity(v).compareTo(quantity('1Mi')) >= 0" }}
{{- $wantCPU := "a CPU quantity above 0, such as 100m or 2" }}
{{- $wantMemory := "a memory quantity of at least 1Mi, such as 128Mi or 1Gi" }}
{{- $wantPorts := "TCP ports from 1 to 65535, separated by commas" }}
{{- $zero := ", or \"0\" for no limit" }}
{{- $checks := list
  (list "proxy-cpu-request" $cpu $wantCPU)
  (list "proxy-cpu-limit" (printf "(v == '0' || %s)" $cpu) (print $wantCPU $zero))
  (list "proxy-memory-request" $memory $wantMemory)
  (list "proxy-memory-limit" (printf "(v == '0' || %s)" $memory) (print $wantMemory $zero))
  (list "proxy-log-level" "v in ['trace', 'debug', 'info', 'warning', 'error', 'critical', 'off']" "trace, debug, info, warning, error, critical or off")
  (list "log-answers" "v in ['true', 'false']" "\"true\" or \"false\"")
  (list "proxy-concurrency" "v.matches('^[0-9]{1,9}$') && int(v) <= 64" "a whole number from 0 to 64")
  (list "exclude-inbound-ports" $ports $wantPorts)
  (list "exclude-outbound-ports" $ports $wantPorts)
  (list "exclude-outbound-cidrs" "(v.trim() == '' || v.split(',').all(c, c.trim().matches('^[0-9A-Fa-f:.]+/[0-9]{1,3}$')))" "CIDRs whose host bits are zero, separated by commas, such as 10.0.0.0/8,fd00::/8")
  (list "drain-delay" "(v == '0' || v.matches('^([0-9]{1,5}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(v) <= duration('1h') && duration(v).getMilliseconds() % 1000 == 0)" "whole seconds from 0s to 1h, such as 5s")
  (list "config-scope" "v in ['all', 'namespace', 'demand']" "all, namespace or demand")
  (list "proxy-image-pull-secrets" "(v.trim() == '' || v.split(',').all(n, n.trim().matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')))" "names of Secrets in the pod''s namespace, separated by commas")
  (list "forward-client-cert" (printf "v.trim() != '' && %s" $ports) $wantPorts)
}}
{{- range $i, $check := $checks }}
{{- if $i }} + {{ end -}}
['mizzen.dev/{{ index $check 0 }}'].filter(k, k in {{ $map }} && ![{{ $map }}[k]].all(v, {{ index $check 1 }})).map(k, 'annotation ' + k + ': "' + {{ $map }}[k] + '": want {{ index $check 2 | replace "''" "\\'" }}')
{{- end }}
{{- end }}
