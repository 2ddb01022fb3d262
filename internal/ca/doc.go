// Package ca is a small certificate authority: make one, load one, sign leaves from a template or
// from a certificate signing request.
//
// It keeps no state, reads no clock (callers say what time it is) and imports nothing but the
// standard library, so that the webhook's serving certificates and the workloads' identities can be
// signed by the same code.
package ca
