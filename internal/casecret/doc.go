// Package casecret keeps a CA in a Secret that all replicas of the control plane share. The Secret is made where there
// is none, remembered, and restored when somebody deletes it. One that cannot be used is named in log, event, metric
// and readiness, and is never overwritten; the replica goes on with the CA that it remembers. The leader rotates the CA
// in the steps of internal/rotation, and each replica signs its serving certificate in memory.
//
// Whoever uses it says in a Kind how the Secret holds the CA and what the texts call it, reconciles by Store.Read and
// Store.Step, and does in between what is its own.
//
//	options.go   what it needs: of the cluster, and of one kind of CA
//	store.go     reading, creating, restoring and rotating the Secret
//	unusable.go  a Secret that cannot be used
//	metrics.go
//
// It may import internal/ca, internal/rotation, internal/lookout and Kubernetes clients, and nothing else of this
// module.
package casecret
