// Package conformance runs the Gateway API's official conformance suite against Mizzen on a real cluster:
// profiles MESH-HTTP and MESH-GRPC, every extended feature of a mesh, nothing skipped.
//
//	MIZZEN_CONFORMANCE=1 go test ./test/conformance -v                       all, compared with the kept report
//	MIZZEN_CONFORMANCE=1 go test ./test/conformance -update                  all, and the report is kept
//	MIZZEN_CONFORMANCE=1 go test ./test/conformance -v -run-test MeshPorts   one test of the suite
//
// The flags of the suite itself work too: with -cleanup-base-resources=false Mizzen, the CRDs and the suite's
// pods stay. The cluster is $KUBECONFIG's, else the embedded one's, which needs the suite's image:
// make conformance does it all. docs/conformance holds the report and says how others reproduce it.
package conformance
