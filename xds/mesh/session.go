package mesh

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Session keeps the calls of one client at the endpoint that answered the first call, while the endpoint exists. The client
// sends the endpoint's address along.
// https://gateway-api.sigs.k8s.io/geps/gep-1619/
type Session struct {
	// Header is true if a header carries the session, not a cookie. The client repeats the header of the answer.
	Header bool
	// Name of the cookie or, in lower case, the header.
	Name string
	// MaxAge of the cookie in whole seconds; 0 is a cookie of the client's session.
	MaxAge time.Duration
	// ByRule is true for a rule's session, whose cookie is for the path that the rule matched. The cookie of a Service's
	// session has no path, so the client's default applies.
	ByRule bool
}

// readSession reads sessionPersistence. origin names the object, or the rule, that the session belongs to.
func readSession(field string, o gatewayv1.SessionPersistence, origin string, f *faults) *Session {
	s := &Session{Name: deref(o.SessionName)}
	lifetime := gatewayv1.SessionCookieLifetimeType
	if o.CookieConfig != nil && o.CookieConfig.LifetimeType != nil {
		lifetime = *o.CookieConfig.LifetimeType
	}
	switch deref(o.Type) {
	case "", gatewayv1.CookieBasedSessionPersistence:
	case gatewayv1.HeaderBasedSessionPersistence:
		s.Header = true
		if o.CookieConfig != nil {
			f.add(field+".cookieConfig", lifetime, "no cookieConfig with type Header")
		}
	default:
		f.unknown(field+".type", *o.Type, "Cookie or Header")
	}
	if s.Name == "" { // sessions of different origins must not overwrite each other
		s.Name = "mizzen-session-" + shortHash(origin)
	}
	if s.Header {
		s.Name = checkChangedHeader(field+".sessionName", s.Name, f)
	} else if !config.ValidToken(s.Name) {
		f.add(field+".sessionName", s.Name, "the name of a cookie")
	}
	switch timeout := o.AbsoluteTimeout; {
	case lifetime != gatewayv1.SessionCookieLifetimeType && lifetime != gatewayv1.PermanentCookieLifetimeType:
		f.unknown(field+".cookieConfig.lifetimeType", lifetime, "Session or Permanent")
	case lifetime == gatewayv1.PermanentCookieLifetimeType && timeout == nil:
		f.add(field+".absoluteTimeout", "", "a duration, because cookieConfig.lifetimeType is Permanent")
	case timeout != nil && (s.Header || lifetime == gatewayv1.SessionCookieLifetimeType):
		// Envoy has such a bound only for cookies with Max-Age, and measures it by a clock that sidecars on different nodes do
		// not share.
		f.add(field+".absoluteTimeout", *timeout, "no value unless cookieConfig.lifetimeType is Permanent, because only the client can end a session")
	case timeout != nil:
		d, ok := config.ParseDuration(string(*timeout))
		if !ok || d < time.Second || d%time.Second != 0 {
			f.add(field+".absoluteTimeout", *timeout, "a Gateway API duration of whole seconds, such as 1h")
		}
		s.MaxAge = d
	}
	return s
}

// session returns the session of a rule's backend: "the session persistence configuration in the Route takes precedence".
func (b resolver) session(rule *routeRule, target Target) *Session {
	if rule.session != nil {
		return rule.session
	}
	if svc := b.services[target.Service]; svc != nil {
		return svc.Traffic.Session
	}
	return nil
}

// pin gives each of several backends a session of its own, so that the name of a client's cookie identifies the backend:
// "the persistence to a single backend MUST be maintained across services, even if the weight is set to 0". The first
// backend with a name keeps the name, so that a backend that is added behind it ends no session. If some backends have no
// session, nothing is pinned: the backends with a session would collect the clients of the others.
// https://gateway-api.sigs.k8s.io/geps/gep-1619/#traffic-splitting
func pin(backends []Backend) []Backend {
	cannot := func(b Backend) bool { return b.Valid && (b.Session == nil || b.Session.Header) }
	if len(backends) < 2 || slices.ContainsFunc(backends, cannot) {
		return nil
	}
	names := map[string]bool{}
	for i := range backends {
		b := &backends[i]
		if !b.Valid {
			continue
		}
		if names[b.Session.Name] {
			own := *b.Session
			own.Name += "-" + shortHash(fmt.Sprintf("%s:%d", b.Service, b.Port))
			b.Session = &own
		}
		names[b.Session.Name] = true
	}
	return slices.DeleteFunc(slices.Clone(backends), func(b Backend) bool { return !b.Valid })
}

// shortHash returns eight characters.
func shortHash(text string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // it never fails
	return fmt.Sprintf("%08x", h.Sum32())
}
