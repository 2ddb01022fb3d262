// Package transparency keeps the promise "nothing else changes": it makes the same raw exchange directly and through
// sidecars, in many layouts, and compares what both ends saw. What differs stands in one table (differences), of which
// docs/transparency.md is made, but for what is there of kubectl.
//
// It needs no cluster. Pods are network namespaces with what the injector gives them: the real capture rules and the
// real agent with its Envoy. The control plane is the product's own, in this process, over an API server that is none.
//
// An exchange is two scripts, one for each end (exchanges_*_test.go), made at ports of every protocol that it names and in
// every layout (layouts_test.go). Who mends a difference takes its entry out of the table and writes the page anew:
//
//	go test ./test/transparency -run Nothing -exchanges 'http1/upgrade/.*' -v
//	go test ./test/transparency -update
package transparency
