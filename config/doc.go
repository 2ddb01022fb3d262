// Package config is everything a user can set: the mesh configuration file, the one table of
// labels and annotations (keys.go), and the fixed names and ports both sides of Mizzen agree on.
//
// Loading is strict: an unknown field, a duplicate or a bad value is refused with an error that
// names the field, the value and what is allowed. The package holds no clients and reads no
// environment; it may import the Kubernetes API types and nothing else of this module.
package config
