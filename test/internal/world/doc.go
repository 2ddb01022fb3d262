// Package world makes what a benchmark or a test of two pods needs of a mesh without a cluster: the network namespaces of a
// client pod and a server pod with the real capture rules, real Envoys, and the real control plane (internal/xdstest) in this
// process.
package world
