{{- /*
Refuses values with which the control plane would not start, with the control plane's own messages, where the
schema cannot: bounds of durations and quantities, host bits of CIDRs, and values that contradict each other.
test/chart gives the same values to the chart and to the control plane.
*/}}
{{- define "mizzen.checks" -}}
{{- $mesh := .Values.mesh }}
{{- $webhook := .Values.webhook }}
{{- range list
  (list "mesh.mtls.drainTime" $mesh.mtls.drainTime "2s" "1h0m0s")
  (list "mesh.protocolDetection.timeout" $mesh.protocolDetection.timeout "1ms" "1m0s")
  (list "mesh.traffic.connectTimeout" $mesh.traffic.connectTimeout "1ms" "5m0s")
  (list "mesh.onDemand.timeout" $mesh.onDemand.timeout "1s" "5m0s")
  (list "mesh.identity.caLifetime" $mesh.identity.caLifetime "6m0s" "876000h0m0s")
  (list "mesh.identity.certificateLifetime" $mesh.identity.certificateLifetime "2m0s" "876000h0m0s")
  (list "mesh.identity.caSettle" $mesh.identity.caSettle "1s" "876000h0m0s")
  (list "webhook.caLifetime" $webhook.caLifetime "1ns" "876000h0m0s")
  (list "webhook.certificateLifetime" $webhook.certificateLifetime "1ns" "876000h0m0s")
  (list "webhook.caSettle" $webhook.caSettle "0s" "876000h0m0s")
}}
{{- include "mizzen.check.duration" . }}
{{- end }}
{{- range list
  (list "mesh.identity.certificateLifetime" $mesh.identity.certificateLifetime 3 "a third of mesh.identity.caLifetime" $mesh.identity.caLifetime)
  (list "mesh.identity.caSettle" $mesh.identity.caSettle 6 "a sixth of mesh.identity.caLifetime" $mesh.identity.caLifetime)
  (list "webhook.certificateLifetime" $webhook.certificateLifetime 3 "a third of webhook.caLifetime" $webhook.caLifetime)
  (list "webhook.caSettle" $webhook.caSettle 6 "a sixth of webhook.caLifetime" $webhook.caLifetime)
}}
{{- include "mizzen.check.share" . }}
{{- end }}
{{- $peer := include "mizzen.nanoseconds" $mesh.traffic.peerTimeout | float64 }}
{{- if and (ne $peer 0.0) (or (lt $peer 3e9) (gt $peer 8.64e13)) }}
{{- fail (printf "mesh.traffic.peerTimeout: %q: want a duration from 3s to 24h, or 0s for the kernel's default" $mesh.traffic.peerTimeout) }}
{{- end }}
{{- $drain := include "mizzen.nanoseconds" $mesh.sidecar.drainDelay | float64 }}
{{- if or (gt $drain 3.6e12) (ne (mod (int64 $drain) 1000000000) 0) }}
{{- fail (printf "mesh.sidecar.drainDelay: %q: want whole seconds from 0s to 1h, such as 5s" $mesh.sidecar.drainDelay) }}
{{- end }}
{{- $gateway := .Values.gateway.defaults }}
{{- range list (list "drainDelay" $gateway.drainDelay "5s") (list "drainTimeout" $gateway.drainTimeout "30s") }}
{{- $drain := include "mizzen.nanoseconds" (index . 1) | float64 }}
{{- if or (gt $drain 3.6e12) (ne (mod (int64 $drain) 1000000000) 0) }}
{{- fail (printf "gateway.defaults.%s: %q: want whole seconds from 0s to 1h, such as %s" (index . 0) (index . 1) (index . 2)) }}
{{- end }}
{{- end }}
{{- with $gateway.autoscaling }}
{{- if not .maxReplicas }}
{{- fail "gateway.defaults.autoscaling.maxReplicas: \"\": want a whole number from 1 to 1000" }}
{{- else if gt (int64 (.minReplicas | default 1)) (int64 .maxReplicas) }}
{{- fail (printf "gateway.defaults.autoscaling.minReplicas: \"%d\": want a whole number from 1 to %d" (int64 .minReplicas) (int64 .maxReplicas)) }}
{{- end }}
{{- end }}
{{- include "mizzen.check.resources" (list "gateway.defaults.resources" (get $gateway "resources")) }}
{{- if and (eq $mesh.mtls.mode "strict") (not $mesh.identity.enabled) }}
{{- fail "mesh.mtls.mode: \"strict\": want permissive while mesh.identity.enabled is false, because strict would refuse every call" }}
{{- end }}
{{- range $i, $cidr := $mesh.serviceCIDRs }}
{{- include "mizzen.check.cidr" (list (printf "mesh.serviceCIDRs[%d]" $i) $cidr) }}
{{- end }}
{{- range $i, $cidr := $mesh.sidecar.excludeOutboundCIDRs }}
{{- include "mizzen.check.cidr" (list (printf "mesh.sidecar.excludeOutboundCIDRs[%d]" $i) $cidr) }}
{{- end }}
{{- include "mizzen.check.resources" (list "mesh.sidecar.resources" (get $mesh.sidecar "resources")) }}
{{- end }}

{{- /* (list path value low high) */}}
{{- define "mizzen.check.duration" -}}
{{- $is := include "mizzen.nanoseconds" (index . 1) | float64 }}
{{- $low := include "mizzen.nanoseconds" (index . 2) | float64 }}
{{- $high := include "mizzen.nanoseconds" (index . 3) | float64 }}
{{- if or (lt $is $low) (gt $is $high) }}
{{- fail (printf "%s: %q: want a duration from %s to %s" (index . 0) (index . 1) (index . 2) (index . 3)) }}
{{- end }}
{{- end }}

{{- /* (list path value parts "a third of …" whole) */}}
{{- define "mizzen.check.share" -}}
{{- $is := include "mizzen.nanoseconds" (index . 1) | float64 }}
{{- $whole := include "mizzen.nanoseconds" (index . 4) | float64 }}
{{- if gt (mulf $is (index . 2)) $whole }}
{{- fail (printf "%s: %q: want at most %s, %q" (index . 0) (index . 1) (index . 3) (index . 4)) }}
{{- end }}
{{- end }}

{{- /* A Go duration in nanoseconds. The schema has checked its syntax. */}}
{{- define "mizzen.nanoseconds" -}}
{{- $units := dict "ns" 1.0 "us" 1e3 "µs" 1e3 "μs" 1e3 "ms" 1e6 "s" 1e9 "m" 6e10 "h" 3.6e12 }}
{{- $sum := 0.0 }}
{{- range regexFindAll "[0-9.]+[a-zµμ]+" . -1 }}
{{- $unit := regexFind "[a-zµμ]+$" . }}
{{- $number := trimSuffix $unit . | trimSuffix "." }}
{{- $sum = addf $sum (floor (mulf (float64 $number) (get $units $unit))) }}
{{- end }}
{{- printf "%.0f" $sum }}
{{- end }}

{{- /* (list path value) */}}
{{- define "mizzen.check.cidr" -}}
{{- if ne (include "mizzen.cidr" (index . 1)) "good" }}
{{- fail (printf "%s: %q: want a CIDR whose host bits are zero, such as 10.0.0.0/8 or fd00::/8" (index . 0) (index . 1)) }}
{{- end }}
{{- end }}

{{- /* "good" for a CIDR of either family without host bits. Compares an address in groups of 8 or 16 bits. */}}
{{- define "mizzen.cidr" -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" }}
{{- $address := splitList "/" . | first }}
{{- $length := splitList "/" . | last }}
{{- $groups := list }}
{{- $bits := 8 }}
{{- if regexMatch (printf "^%s(\\.%s){3}$" $octet $octet) $address }}
{{- range splitList "." $address }}{{ $groups = append $groups (int64 .) }}{{ end }}
{{- else if contains ":" $address }}
{{- $bits = 16 }}
{{- $tail := regexFind "[0-9]+(\\.[0-9]+)+$" $address }}
{{- if regexMatch (printf "^%s(\\.%s){3}$" $octet $octet) $tail }}
{{- $o := splitList "." $tail }}
{{- $address = printf "%s%02x%02x:%02x%02x" (trimSuffix $tail $address) (index $o 0 | int64) (index $o 1 | int64) (index $o 2 | int64) (index $o 3 | int64) }}
{{- end }}
{{- $sides := splitList "::" $address }}
{{- $given := 0 }}
{{- range $sides }}{{ if . }}{{ $given = add $given (len (splitList ":" .)) }}{{ end }}{{ end }}
{{- if or (and (eq (len $sides) 1) (eq (int $given) 8)) (and (eq (len $sides) 2) (lt (int $given) 8)) }}
{{- range $side, $text := $sides }}
{{- if eq $side 1 }}{{ range until (int (sub 8 $given)) }}{{ $groups = append $groups 0 }}{{ end }}{{ end }}
{{- if $text }}
{{- range splitList ":" $text }}
{{- $groups = append $groups (ternary (include "mizzen.hex" .) "-1" (regexMatch "^[0-9a-fA-F]{1,4}$" .) | int64) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $good := and $groups (regexMatch "^(0|[1-9][0-9]{0,2})$" $length) }}
{{- if $good }}{{ $good = le (int64 $length) (mul $bits (len $groups)) }}{{ end }}
{{- range $i, $group := $groups }}
{{- if lt (int64 $group) 0 }}{{ $good = false }}{{ end }}
{{- $host := sub (mul $bits (add $i 1)) (int64 $length) | max 0 | min $bits }}
{{- $size := 1 }}
{{- range until (int $host) }}{{ $size = mul $size 2 }}{{ end }}
{{- if ne (mod (int64 $group) $size) 0 }}{{ $good = false }}{{ end }}
{{- end }}
{{- ternary "good" "bad" (eq (toString $good) "true") }}
{{- end }}

{{- define "mizzen.hex" -}}
{{- $sum := 0 }}
{{- range splitList "" (lower .) }}
{{- $sum = add (mul $sum 16) (index (dict "a" 10 "b" 11 "c" 12 "d" 13 "e" 14 "f" 15) . | default (int64 .)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{- /* (list path resources) */}}
{{- define "mizzen.check.resources" -}}
{{- $path := index . 0 }}
{{- $resources := index . 1 | default dict }}
{{- range $kind := list "requests" "limits" }}
{{- range $name, $quantity := get $resources $kind | default dict }}
{{- $is := include "mizzen.quantity" $quantity | float64 }}
{{- if and (eq $name "cpu") (le $is 0.0) }}
{{- fail (printf "%s.%s.cpu: %q: want a CPU quantity above 0, such as 100m or 2" $path $kind (toString $quantity)) }}
{{- else if and (eq $name "memory") (lt (ceil $is) 1048576.0) }}
{{- fail (printf "%s.%s.memory: %q: want a memory quantity of at least 1Mi, such as 128Mi or 1Gi" $path $kind (toString $quantity)) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $quantity := get $resources "requests" | default dict }}
{{- $limit := get (get $resources "limits" | default dict) $name }}
{{- if and (ne (toString $limit) "") (gt (include "mizzen.quantity" $quantity | float64) (include "mizzen.quantity" $limit | float64)) }}
{{- fail (printf "%s.requests.%s: %q: want at most the limit, %s" $path $name (toString $quantity) (toString $limit)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A Kubernetes quantity as a number. The schema has checked its syntax. */}}
{{- define "mizzen.quantity" -}}
{{- $text := toString . | trimPrefix "+" }}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text }}
{{- $unit := trimPrefix $number $text }}
{{- $units := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
  "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 }}
{{- mulf (float64 $number) (get $units $unit) | printf "%.9f" }}
{{- end }}
