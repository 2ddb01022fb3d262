// Package issuer answers the agents of sidecars (internal/identity/api). It signs certificates for pods that send their
// token, and serves the trust bundle to agents with a certificate.
//
//	certificate.go  what it takes to get a certificate
//	request.go      reading what a stranger sends (pure)
//	bundle.go       the wait for another bundle
//	agents.go       which bundle each connected agent has
//	server.go       the HTTPS server and its limits
//
// Tokens and pods are interfaces (internal/identity/kube). It may import internal/identity/api,
// internal/identity/authority, internal/ca, internal/spiffe, internal/node, internal/netlimit and
// internal/httpjson, and nothing else of this module.
package issuer
