// Package config has everything that a user can set: the mesh configuration file, and the single table of labels and
// annotations (keys.go). It also has the fixed names and ports on which both sides of Mizzen agree; those that are in pods, too,
// come from package fixed.
//
// Loading is strict: an unknown field, a duplicate or a bad value is an error that names the field, the value and the
// allowed values. The package holds no clients and reads no environment; it may import the Kubernetes API types and,
// of this module, package fixed.
package config
