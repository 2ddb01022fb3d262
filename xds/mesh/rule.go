package mesh

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
)

// PortRules are the rules of one Service port, each list in the order in which they are tried.
type PortRules struct {
	// Producer rules come from routes in the Service's own namespace and hold for every client. They are nil if no such
	// route is attached: then each request goes to the Service itself.
	Producer []Rule
	// Consumer rules, by namespace, come from routes in that namespace. For clients there they replace all producer rules:
	// rules are merged only within one group.
	// https://gateway-api.sigs.k8s.io/geps/gep-1294/#multiple-routes-for-a-service
	Consumer map[string][]Rule
}

// For returns the rules for clients in a namespace.
func (p PortRules) For(namespace string) []Rule {
	if rules, ok := p.Consumer[namespace]; ok {
		return rules
	}
	return p.Producer
}

// OfConnections reports whether the rules of a group come from TLSRoutes or TCPRoutes. A group never has rules of both
// requests and connections.
func OfConnections(rules []Rule) bool {
	return len(rules) > 0 && rules[0].Origin.Route.Kind.OfConnections()
}

// Rule is one match of a route's rule, and the action on matching requests or connections. The matches of one rule share
// the Action. In a TLSRoute each hostname is a match. A TCPRoute has one match, which matches every connection.
type Rule struct {
	Origin Origin
	Match  Match
	Action *Action
}

// Origin is the place that a Rule comes from.
type Origin struct {
	Route   ID
	Created time.Time
	// Rule and Match are indexes into spec.rules and its matches. In a TLSRoute, Match is an index into spec.hostnames.
	Rule, Match int
	// Name of the rule, may be empty.
	Name string
}

func (o Origin) String() string {
	if o.Name != "" {
		return fmt.Sprintf("%s rule %d (%s)", o.Route, o.Rule, o.Name)
	}
	return fmt.Sprintf("%s rule %d", o.Route, o.Rule)
}

// MatchType says how a text is compared.
type MatchType string

// The types of matches. A regular expression is RE2 and must match the whole text.
const (
	Exact  MatchType = "Exact"
	Prefix MatchType = "Prefix" // of a path, element by element
	Regex  MatchType = "RegularExpression"
)

// TextMatch compares one text.
type TextMatch struct {
	Type  MatchType
	Value string
}

// FieldMatch compares the value of a header (its name in lower case) or a query parameter.
type FieldMatch struct {
	Name string
	TextMatch
}

// Match is a condition on a request; all of its parts must hold.
type Match struct {
	// Path without the query. A Prefix has no "/" at its end, except "/" itself. That matches every request, even one
	// without a path (CONNECT, OPTIONS *).
	Path    TextMatch
	Method  string // empty for any
	Headers []FieldMatch
	Query   []FieldMatch
	// GRPC is a GRPCRoute's match on service and method, for the order of its rules. Path is the same match on the path.
	GRPC *GRPCMatch
	// TLS is a TLSRoute's match on a connection. Connections that are not TLS do not match.
	TLS *TLSMatch
}

// TLSMatch is a match on a TLS connection by the server name that the client asks for (SNI): a name, or "*." and a suffix.
// An empty name matches every connection, even one without a server name.
type TLSMatch struct{ ServerName string }

// GRPCMatch is a match on a gRPC call; a nil part matches any.
type GRPCMatch struct{ Service, Method *TextMatch }

// Action is what happens to a request or a connection. Exactly one of Redirect, Fail, Refuse and Backends is set.
type Action struct {
	Redirect *Redirect
	// Fail is the status of the answer, if no backend can take the request; FailReason says why.
	Fail       uint32
	FailReason string
	// Refuse is Fail for connections: they are closed at once.
	Refuse bool
	// Backends with a weight above 0. At least one of them is valid.
	Backends []Backend
	// Pinned are the backends, of a rule with several, that take the requests of their sessions whatever the weights are.
	// Each has a Session with a cookie of its own name.
	Pinned []Backend
	// InvalidStatus answers the share of requests that an invalid backend would have got; connections are closed.
	InvalidStatus uint32

	RequestHeaders, ResponseHeaders HeaderChange
	Rewrite                         Rewrite
	// CORS and Auth are filters that only gateways have.
	CORS    *CORS
	Auth    *ExternalAuth
	Mirrors []Mirror
	Calls   CallPolicy
}

// Backend is a Service port that takes a share of the requests.
type Backend struct {
	Target
	Weight uint32
	// Valid is false if the reference cannot be resolved.
	Valid bool
	// RequestHeaders and ResponseHeaders are nil if the backend has no filters of its own. Otherwise they include the
	// changes of the rule.
	RequestHeaders, ResponseHeaders *HeaderChange
	// Session of the requests to this backend, or nil.
	Session *Session
}

// Target is a Service port to send to.
type Target struct {
	Service Key
	Port    uint16
	// Families are the IP families of the Service, and ClusterIPs its address in each; a headless Service has none.
	Families   []Family
	ClusterIPs []netip.Addr
	// HTTP2 is true if the port declares a protocol over HTTP/2.
	HTTP2 bool
	// HashBy of the Service.
	HashBy *config.HashBy
	// Identities of the Service.
	Identities []string
	// Near of the Service.
	Near bool
}

// Header is a header field; the name is in lower case.
type Header struct{ Name, Value string }

// HeaderChange changes headers: first Remove, then Set (replaces or adds), then Add (adds a value). A name in Remove is in
// none of the others.
type HeaderChange struct {
	Set, Add []Header
	Remove   []string
}

// Empty reports whether nothing is changed.
func (h HeaderChange) Empty() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// PathChange replaces the whole path, or the prefix that the rule matched. The query stays.
type PathChange struct {
	// Full is true if it replaces the whole path.
	Full  bool
	Value string
}

// Rewrite changes the host and the path of a request.
type Rewrite struct {
	Hostname string // empty keeps it
	Path     *PathChange
}

// Redirect answers with another location.
type Redirect struct {
	Scheme, Hostname string // empty keeps it
	Port             uint16 // 0: see redirectAction in xds/envoy
	Path             *PathChange
	Status           uint32
}

// Mirror sends a copy of some requests to another Service and ignores the answers.
type Mirror struct {
	Target
	// PerMillion is the share of requests, 1 to 1,000,000.
	PerMillion uint32
}

// CallPolicy has timeouts and retries of calls.
type CallPolicy struct {
	// Timeout is for a whole call, from its head to the end of the answer, and BackendTimeout for one try; 0 is no timeout.
	Timeout, BackendTimeout time.Duration
	// RetryOn are conditions of config.RetryConditions, RetryStatuses status codes. If both are empty, a call is retried
	// only if no server has begun it.
	RetryOn       []string
	RetryStatuses []uint32
	// RetryAttempts is the number of tries after the first; nil for the mesh's default.
	RetryAttempts *uint32
	// RetryBackoff is the base of the jittered exponential back-off; 0 for Envoy's own.
	RetryBackoff time.Duration
}

// OptedIn reports whether calls are retried that a server may have executed.
func (c CallPolicy) OptedIn() bool { return len(c.RetryOn)+len(c.RetryStatuses) > 0 }

// Every reports whether every request matches.
func (m Match) Every() bool {
	return m.Path.every() && m.Method == "" && len(m.Headers) == 0 && len(m.Query) == 0 && m.TLS == nil
}

func (t TextMatch) every() bool { return t.Type == Prefix && t.Value == "/" }
