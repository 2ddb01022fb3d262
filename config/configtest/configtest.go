// Package configtest has mesh configurations for tests.
package configtest

import "github.com/mizzen-mesh/mizzen/config"

// WithoutIdentity returns the default configuration of a mesh without identities.
func WithoutIdentity() *config.Mesh {
	m, err := config.Parse([]byte("identity: {enabled: false}"))
	if err != nil {
		panic(err) // the document is a constant
	}
	return m
}
