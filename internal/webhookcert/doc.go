// Package webhookcert keeps the admission webhook's TLS in order without help from outside: a CA in
// one Secret, a serving certificate that every replica signs for itself in memory, and the caBundle
// of the MutatingWebhookConfiguration.
//
// The rule that everything here follows: no API server ever sees a certificate that the caBundle
// does not cover. A new CA is therefore put into the caBundle first (next), signs only after a settle
// time, and the old one stays in the caBundle (previous) until it has expired and with it every leaf
// that it can have signed.
//
//	bundle.go   reading and mending the caBundle
//	manager.go  the reconciler: which CA, and when the next one signs
//
// The Secret, the leaf in memory and the steps of a rotation are internal/casecret. It may import that,
// internal/rotation, internal/ca, internal/lookout and Kubernetes clients, and nothing else of this module.
package webhookcert
