// Package rotation is what the CAs have in common that the control plane keeps in Secrets: generations of
// a CA and which follows which (pure), and the certificate that a replica signs for itself in memory.
//
// A CA is replaced in three steps: the next one is trusted, it signs, the one before is forgotten. It
// may import internal/ca and nothing else of this module.
package rotation
