// Package world makes what a benchmark needs of a mesh without a cluster: the network namespaces of a
// client pod and a server pod with the real capture rules, real Envoys, and the real control-plane
// stages and ADS server in this process.
package world
