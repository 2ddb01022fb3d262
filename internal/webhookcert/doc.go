// Package webhookcert keeps the admission webhook's TLS in order without help from outside: a CA in
// one Secret, a serving certificate that every replica signs for itself in memory, and the caBundle
// of the MutatingWebhookConfiguration.
//
// The rule that everything here follows: no API server ever sees a certificate that the caBundle
// does not cover. A new CA is therefore put into the caBundle first (next), signs only after a settle
// time, and the old one stays in the caBundle (previous) until it has expired and with it every leaf
// that it can have signed.
//
//	state.go    what the Secret holds (pure)
//	bundle.go   reading and mending the caBundle
//	secret.go   reading, creating and restoring the Secret
//	manager.go  the reconciler that ties them together
//
// Which CA follows which, and the leaf in memory, is internal/rotation. It may import that,
// internal/ca, internal/lookout and Kubernetes clients, and nothing else of this module.
package webhookcert
