package mesh

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
)

// PortRules are the rules of one Service port, each list in the order in which they are tried.
type PortRules struct {
	// Producer rules come from routes in the Service's own namespace and hold for every client. Nil
	// where no such route is attached: then each request goes to the Service itself.
	Producer []Rule
	// Consumer rules, by namespace, come from routes in that namespace. For clients there they stand
	// in for the producer rules as a whole: rules are merged within one group only.
	// https://gateway-api.sigs.k8s.io/geps/gep-1294/#multiple-routes-for-a-service
	Consumer map[string][]Rule
}

// For gives the rules for clients in a namespace.
func (p PortRules) For(namespace string) []Rule {
	if rules, ok := p.Consumer[namespace]; ok {
		return rules
	}
	return p.Producer
}

// OfConnections reports whether rules of one group are those of TLSRoutes or TCPRoutes. Rules of requests and of
// connections are never in one group.
func OfConnections(rules []Rule) bool {
	return len(rules) > 0 && rules[0].Origin.Route.Kind.OfConnections()
}

// Rule is one match of a route's rule with what becomes of a request, or a connection, that it matches. The matches of
// one rule share the Action. Of a TLSRoute each hostname is a match; a TCPRoute has one, which is every connection.
type Rule struct {
	Origin Origin
	Match  Match
	Action *Action
}

// Origin is where a Rule stands.
type Origin struct {
	Route   ID
	Created time.Time
	// Rule and Match are indexes into spec.rules and its matches; of a TLSRoute Match is one into spec.hostnames.
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
	// Path without the query. A Prefix has no "/" at its end, except "/" itself, which every request
	// matches, also those without a path (CONNECT, OPTIONS *).
	Path    TextMatch
	Method  string // empty for any
	Headers []FieldMatch
	Query   []FieldMatch
	// GRPC is what a GRPCRoute says of service and method, for the order of its rules; Path says the
	// same for matching.
	GRPC *GRPCMatch
	// TLS is what a TLSRoute says of a connection. Connections that are not TLS match none of its rules.
	TLS *TLSMatch
}

// TLSMatch is a match on a TLS connection by the server name that the client asks for (SNI): a name, "*." and the end
// of names, or empty for any name or none.
type TLSMatch struct{ ServerName string }

// GRPCMatch is a match on a gRPC call; a nil part matches any.
type GRPCMatch struct{ Service, Method *TextMatch }

// Action is what becomes of a request or a connection. Exactly one of Redirect, Fail, Refuse and Backends decides.
type Action struct {
	Redirect *Redirect
	// Fail is the status of the answer, if no backend can take the request; FailReason says why.
	Fail       uint32
	FailReason string
	// Refuse is Fail of connections: they are closed at once.
	Refuse bool
	// Backends with a weight above 0, one of which is valid at least.
	Backends []Backend
	// Pinned are the backends of a rule with several that take the requests of their sessions, whatever
	// the weights. All have a Session, with a cookie of its own name.
	Pinned []Backend
	// InvalidStatus answers the share of requests that an invalid backend would have got; connections are closed.
	InvalidStatus uint32

	RequestHeaders, ResponseHeaders HeaderChange
	Rewrite                         Rewrite
	Mirrors                         []Mirror
	Calls                           CallPolicy
}

// Backend is a Service port that takes a share of the requests.
type Backend struct {
	Target
	Weight uint32
	// Valid is false where the reference cannot be resolved.
	Valid bool
	// RequestHeaders and ResponseHeaders are nil where the backend has no filters of its own; else
	// they hold the changes of the rule as well.
	RequestHeaders, ResponseHeaders *HeaderChange
	// Session of the requests to this backend; nil for none.
	Session *Session
}

// Target is a Service port to send to.
type Target struct {
	Service Key
	Port    uint16
	// Families in which the Service has an address, and ClusterIPs, its address in each.
	Families   []Family
	ClusterIPs []netip.Addr
	// HashBy of the Service.
	HashBy *config.HashBy
	// Identities of the Service: see Service.
	Identities []string
}

// Header is a header field; the name is in lower case.
type Header struct{ Name, Value string }

// HeaderChange changes headers: first Remove, then Set (replace or add), then Add (a further value).
// No name in Remove occurs in the others.
type HeaderChange struct {
	Set, Add []Header
	Remove   []string
}

// Empty reports whether nothing is changed.
func (h HeaderChange) Empty() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// PathChange replaces the whole path, or the prefix that the rule matched. The query stays.
type PathChange struct {
	// Full is set for the whole path.
	Full  bool
	Value string
}

// Rewrite changes where a request says it is going.
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

// CallPolicy bounds calls and says when they are made again.
type CallPolicy struct {
	// Timeout of a whole call, from its head to the end of the answer, and of one try; 0 is none.
	Timeout, BackendTimeout time.Duration
	// RetryOn are conditions of config.RetryConditions, RetryStatuses status codes. Where both are
	// empty, only calls are made again of which no server has begun.
	RetryOn       []string
	RetryStatuses []uint32
	// RetryAttempts are tries after the first; nil for the mesh's default.
	RetryAttempts *uint32
	// RetryBackoff is the base of the jittered exponential back-off; 0 for Envoy's own.
	RetryBackoff time.Duration
}

// OptedIn reports whether calls are made again that a server may have executed.
func (c CallPolicy) OptedIn() bool { return len(c.RetryOn)+len(c.RetryStatuses) > 0 }

// Every reports whether every request matches.
func (m Match) Every() bool {
	return m.Path.every() && m.Method == "" && len(m.Headers) == 0 && len(m.Query) == 0 && m.TLS == nil
}

func (t TextMatch) every() bool { return t.Type == Prefix && t.Value == "/" }
