package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	wantLimit           = "a whole number from 1 to 1000000"
	wantEjectInterval   = "a Gateway API duration from 1ms to 1h, such as 10s"
	wantEjectionTime    = "a Gateway API duration from 1ms to 24h, such as 30s"
	wantConnectFailures = "a whole number from 0 to 1000000"
	wantPeerTimeout     = "a Gateway API duration from 3s to 24h, such as 30s, or 0s for the kernel's default"
	wantEjected         = "a whole number from 1 to 50"
	wantLoadBalancing   = "least-request, round-robin, random, ring-hash or maglev"
	wantHashBy          = "source-ip, header:NAME, cookie:NAME or cookie:NAME:LIFETIME, the lifetime in whole seconds, such as cookie:cart:1h"
)

const (
	maxLimit         = 1_000_000
	maxEjectInterval = time.Hour
	maxEjectionTime  = 24 * time.Hour
	maxEjected       = 50
)

// Values of AnnotationLoadBalancing.
const (
	LeastRequest = "least-request"
	RoundRobin   = "round-robin"
	Random       = "random"
	RingHash     = "ring-hash"
	Maglev       = "maglev"
)

var loadBalancing = []string{LeastRequest, RoundRobin, Random, RingHash, Maglev}

// ServicePolicy has the settings from a Service's annotations for connections and requests of one sidecar to the
// Service. The zero value has all defaults.
type ServicePolicy struct {
	// MaxConnections, MaxPendingRequests and MaxRequests are limits at a time; 0 means no limit.
	MaxConnections, MaxPendingRequests, MaxRequests uint32
	// PeerTimeout is nil if the mesh's value applies.
	PeerTimeout *time.Duration
	// ConnectFailures is the number of failures to connect in a row that eject an endpoint; nil if the mesh's value applies, 0
	// for none. Timeouts and resets that follow a connection count only if they come together: Envoy starts
	// again with each request that gets a connection.
	ConnectFailures *uint32
	// Outliers is nil if failed answers eject no endpoint.
	Outliers *Outliers
	// LoadBalancing is empty for the default, which is LeastRequest.
	LoadBalancing string
	// HashBy is set if LoadBalancing hashes.
	HashBy *HashBy
}

// Outliers says when a failing endpoint is ejected for a while.
type Outliers struct {
	// ConsecutiveErrors after which an endpoint is ejected.
	ConsecutiveErrors uint32
	// Interval at which ejected endpoints are checked for their return. EjectionTime is the duration of the first
	// ejection; each further one is longer by it.
	Interval, EjectionTime time.Duration
	// MaxEjectedPercent of the endpoints, 50 at most.
	MaxEjectedPercent uint32
}

// HashSource is the part of a call that is hashed.
type HashSource string

// The sources.
const (
	BySourceIP HashSource = "source-ip"
	ByHeader   HashSource = "header"
	ByCookie   HashSource = "cookie"
)

// HashBy names the hashed part.
type HashBy struct {
	Source HashSource
	Name   string // of the header, in lower case, or of the cookie
	// TTL of the cookie that the sidecar sets if a request has none; 0 means for the client's session.
	TTL time.Duration
}

// ServicePolicyOf reads the annotations of a Service. Bad annotations are not in the result but in the errors, in the
// order of the keys. CallsOf reports unknown keys.
func ServicePolicyOf(annotations map[string]string) (ServicePolicy, []KeyError) {
	var p ServicePolicy
	var outliers Outliers
	var errs []KeyError
	refuse := func(name, want string) {
		errs = append(errs, KeyError{Annotation, name, annotations[name], want})
	}
	for _, name := range sortedKeys(annotations) {
		if !ours(name) {
			continue
		}
		key, err := findKey(OnService, Annotation, name)
		switch {
		case err != nil:
		case key.setPolicy != nil && !key.setPolicy(&p, annotations[name]),
			key.setOutliers != nil && !key.setOutliers(&outliers, annotations[name]):
			refuse(name, key.Values)
		case key.setOutliers != nil && annotations[AnnotationOutlierConsecutiveErrors] == "":
			refuse(name, AnnotationOutlierConsecutiveErrors+" beside it")
		}
	}
	if outliers.ConsecutiveErrors > 0 {
		if p.ConnectFailures != nil {
			p.ConnectFailures = nil
			refuse(AnnotationOutlierConnectFailures, "no "+AnnotationOutlierConsecutiveErrors+" beside it, which counts failures to connect as well")
		}
		setDefault(&outliers.Interval, 10*time.Second)
		setDefault(&outliers.EjectionTime, 30*time.Second)
		setDefault(&outliers.MaxEjectedPercent, maxEjected)
		p.Outliers = &outliers
	}
	hashes := p.LoadBalancing == RingHash || p.LoadBalancing == Maglev
	switch {
	case hashes && p.HashBy == nil:
		p.HashBy = &HashBy{Source: BySourceIP}
	case !hashes && p.HashBy != nil:
		p.HashBy = nil
		refuse(AnnotationHashBy, AnnotationLoadBalancing+", together with ring-hash or maglev")
	}
	return p, errs
}

func wholeNumber(value string, least, most uint64) (uint32, bool) {
	n, err := strconv.ParseUint(value, 10, 32)
	return uint32(n), err == nil && n >= least && n <= most
}

func setLimit(field func(*ServicePolicy) *uint32) func(*ServicePolicy, string) bool {
	return func(p *ServicePolicy, value string) bool {
		n, ok := wholeNumber(value, 1, maxLimit)
		if ok {
			*field(p) = n
		}
		return ok
	}
}

func setConnectFailures(p *ServicePolicy, value string) bool {
	n, ok := wholeNumber(value, 0, maxLimit)
	if ok {
		p.ConnectFailures = &n
	}
	return ok
}

func setPeerTimeout(p *ServicePolicy, value string) bool {
	d, ok := ParseDuration(value)
	if ok = ok && validPeerTimeout(d); ok {
		p.PeerTimeout = &d
	}
	return ok
}

func setOutlierNumber(field func(*Outliers) *uint32, most uint64) func(*Outliers, string) bool {
	return func(o *Outliers, value string) bool {
		n, ok := wholeNumber(value, 1, most)
		if ok {
			*field(o) = n
		}
		return ok
	}
}

func setOutlierDuration(field func(*Outliers) *time.Duration, most time.Duration) func(*Outliers, string) bool {
	return func(o *Outliers, value string) bool {
		d, ok := ParseDuration(value)
		if !ok || d < time.Millisecond || d > most {
			return false
		}
		*field(o) = d
		return true
	}
}

func setLoadBalancing(p *ServicePolicy, value string) bool {
	if !slices.Contains(loadBalancing, value) {
		return false
	}
	p.LoadBalancing = value
	return true
}

// tokenPattern matches names of headers and cookies.
// https://www.rfc-editor.org/rfc/rfc9110#name-tokens
var tokenPattern = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")

// ValidToken reports whether a text is a valid name of a header or a cookie.
func ValidToken(text string) bool { return tokenPattern.MatchString(text) }

func setHashBy(p *ServicePolicy, value string) bool {
	source, rest, _ := strings.Cut(value, ":")
	by, ok := HashBy{Source: HashSource(source)}, false
	switch by.Source {
	case BySourceIP:
		ok = value == source
	case ByHeader:
		by.Name, ok = strings.ToLower(rest), ValidToken(rest)
	case ByCookie:
		name, lifetime, bounded := strings.Cut(rest, ":")
		ttl, isDuration := ParseDuration(lifetime)
		by.Name, by.TTL = name, ttl
		ok = ValidToken(name) && (!bounded || (isDuration && ttl > 0 && ttl%time.Second == 0))
	}
	if ok {
		p.HashBy = &by
	}
	return ok
}
