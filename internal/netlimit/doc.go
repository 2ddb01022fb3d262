// Package netlimit bounds what the clients of a server do at a time, so that one cannot use up what all share: Limit, and
// Listener for connections. Client says who a client is.
//
// It may import the standard library and golang.org/x/sync only.
package netlimit
