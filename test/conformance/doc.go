// Package conformance runs the Gateway API's official conformance suite against Mizzen on a real cluster: all of its
// profiles, for gateways and for a mesh, every extended feature of each, nothing skipped. All namespaces of the suite
// are in the mesh, also those of the gateways and of their backends.
//
//	MIZZEN_CONFORMANCE=1 go test ./test/conformance -v                       all, compared with the kept report
//	MIZZEN_CONFORMANCE=1 go test ./test/conformance -update                  all, and the report is kept
//	MIZZEN_CONFORMANCE=1 go test ./test/conformance -v -run-test MeshPorts   one test of the suite
//
// The flags of the suite itself work too: with -cleanup-base-resources=false Mizzen, the CRDs and the suite's
// pods stay, and the next run with it takes seconds for one test. The suite runs the tests that it allows to at the
// same time, as many as -parallel says. The cluster is $KUBECONFIG's, else the embedded one's, which needs the suite's
// images: make conformance does it all. Another cluster needs a load balancer, and -usable-address.
// docs/conformance holds the report and says how others reproduce it.
package conformance
