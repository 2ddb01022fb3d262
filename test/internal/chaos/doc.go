// Package chaos does harm to a mesh under load and checks what must hold all the same. Pods of the test application call each other at a
// steady rate, in every way that a mesh carries, while faults come in an order that a seed decides. Each fault says which failed calls
// it excuses. A failed call that no fault excuses breaks the promise, and so does whatever else is listed in the report.
//
// The pure parts need no cluster: the order (plan.go), which fault explains which failure (excuse.go), whether a value grows (flat.go),
// and the report (report.go). What a fault does is in faults_*.go. What is checked is in checks.go, usage.go and orphans.go.
package chaos
