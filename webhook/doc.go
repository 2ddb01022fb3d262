// Package webhook injects the sidecar into pods.
//
//	AdmissionReview ──handler──▶ Decide(namespace, pod) ──▶ Inject(pod, config, roots) ──▶ JSON patch
//
// Decide and Inject are pure: no clients, clocks, globals or randomness; the same pod gives the same
// bytes. The side effects (metrics, events, log) are in the handler. mizzenctl uses the same Decide
// and Inject for files.
//
// Injection adds NET_ADMIN to one init container, so a namespace that enforces the Pod Security
// Standard "baseline" or "restricted" refuses injected pods; "privileged" is needed for enforcement
// (warn and audit do no harm).
//
// The package may import config, internal/appprobe, internal/ca, internal/httpjson, internal/identity/api,
// internal/netlimit and internal/sidecar with its contract of this module, never xds or the agent.
package webhook
