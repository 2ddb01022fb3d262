// Package agentapi is what a sidecar's agent tells on loopback of its identity and of who calls its pod in plain
// text, and what mizzenctl reads there. None of it is a secret. It may import the standard library only.
package agentapi

import (
	"net/netip"
	"time"
)

// Paths of the agent's HTTP server, which answers them to loopback alone.
const (
	IdentityPath  = "/debug/identity"
	PlainTextPath = "/debug/plaintext"
)

// Identity is what a sidecar proves itself with, and whom it trusts.
type Identity struct {
	// Certificate is nil before the first one.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Intermediates stand between the certificate and a root.
	Intermediates []Authority `json:"intermediates,omitempty"`
	// Roots are those that the sidecar trusts.
	Roots []Authority `json:"roots"`
	// ControlPlane is the host:port that signs.
	ControlPlane string `json:"controlPlane"`
	// Trouble is why there is no certificate, or no newer one though it is time.
	Trouble string `json:"trouble,omitempty"`
}

// Certificate is the sidecar's own.
type Certificate struct {
	// ID is a SPIFFE ID.
	ID string `json:"id"`
	// Serial is in hexadecimal, as openssl writes it.
	Serial    string    `json:"serial"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Renewal is when the next one is asked for.
	Renewal time.Time `json:"renewal"`
}

// Authority is a certificate that signs others.
type Authority struct {
	Subject string `json:"subject"`
	// Fingerprint is the SHA-256 of the certificate, in hexadecimal.
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
}

// PlainText is who has called the pod without mTLS of the mesh. TLS of the application's own counts as that, too.
type PlainText struct {
	// Since is when the agent began to listen: it knows nothing of what was before.
	Since time.Time `json:"since"`
	// Callers are those that were seen last, at most MaxCallers, in the order of address and port.
	Callers []Caller `json:"callers"`
	// Forgotten is how many had to make room for others.
	Forgotten uint64 `json:"forgotten,omitempty"`
	// MTLS are those with mTLS of the mesh, by their ID, at ports where the sidecar does not read HTTP, and how many of them
	// are forgotten.
	MTLS          []Caller `json:"mtls,omitempty"`
	MTLSForgotten uint64   `json:"mtlsForgotten,omitempty"`
	// WouldRefuse are calls that policies in dry run would have refused when they were made.
	WouldRefuse []Refusal `json:"wouldRefuse,omitempty"`
}

// Refusal is a caller that a policy would refuse.
type Refusal struct {
	// ID is a SPIFFE ID; without one the caller is at Source.
	ID     string     `json:"id,omitempty"`
	Source netip.Addr `json:"source"`
	Port   uint16     `json:"port"`
	// Policy is the Deny that matches; empty where no Allow does.
	Policy string `json:"policy,omitempty"`
	// Count is how often it was seen; a call that goes on is seen each minute.
	Count uint64    `json:"count"`
	Last  time.Time `json:"lastSeen"`
}

// MaxCallers bounds what an agent remembers.
const MaxCallers = 1024

// Caller is an address that has called a port of the pod.
type Caller struct {
	Source netip.Addr `json:"source"`
	// ID is the SPIFFE ID of a caller with mTLS, in place of an address.
	ID   string `json:"id,omitempty"`
	Port uint16 `json:"port"`
	// Connections that reached the application; Requests instead of them where the sidecar reads HTTP.
	Connections uint64 `json:"connections,omitempty"`
	Requests    uint64 `json:"requests,omitempty"`
	// Live are the connections that are open now, or with requests on them where the sidecar reads HTTP.
	Live uint64 `json:"live,omitempty"`
	// First and Last are when it was seen. Who keeps a connection is seen each minute.
	First time.Time `json:"firstSeen"`
	Last  time.Time `json:"lastSeen"`
}
