// Package authority keeps the CA of the mesh's identities in order: one Secret, from which every replica
// signs, and the bundle of roots that everybody trusts.
//
// The rule that everything here follows: nobody signs with a root that is not in the bundle of every
// connected sidecar. A root that the control plane makes itself is followed by the next one in the three
// steps of internal/rotation, written by the leader. A Secret that is somebody else's is only read; when
// its CA changes, each replica takes the same steps in memory.
//
//	secret.go   what the Secret holds (pure)
//	record.go   what the cluster remembers of it when no replica does
//	owner.go    what goes with the release, or stays
//	memory.go   what follows from what was read now and before (pure)
//	manager.go  the reconciler that ties them together
//	rotate.go   the next step, and when; agents.go what the agents of all replicas have
//	pod.go      the certificate of a pod: what it holds, and whose it is
//	tls.go      serving and verifying with it
//
// The Secret itself, and the certificate of this replica, are kept by internal/casecret. It may import that,
// internal/ca, internal/rotation, internal/spiffe, internal/node, internal/identity/api, internal/lookout, config and
// Kubernetes clients, and nothing else of this module.
package authority
