// Package agent runs beside Envoy in the sidecar and in the pods of Gateways (kind): it writes Envoy's bootstrap, starts Envoy, again where it ends by itself, answers the
// kubelet and Prometheus on one HTTP port, and drains Envoy at the end.
//
// Every pod pays for the agent's memory, so imports are kept few: nothing of Kubernetes; of Envoy's Go types only those
// of the services that the agent has for Envoy; of this module only config/fixed, internal/node, internal/appprobe,
// internal/version, internal/agentapi, internal/sds, internal/ca, internal/callmetrics, internal/identity/api and the packages below this one.
package agent
