// Package agent runs beside Envoy in the sidecar: it writes Envoy's bootstrap, starts and watches Envoy, answers the
// kubelet and Prometheus on one HTTP port, and drains Envoy at the end.
//
// Every pod pays for the agent's memory, so imports are kept few: no Kubernetes client, no
// controller-runtime; of this module only config, internal/node, internal/appprobe (and with them the
// Kubernetes API types), internal/version, internal/agentapi, internal/sds, internal/ca, internal/identity/api and the packages below this one.
package agent
