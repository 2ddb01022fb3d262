package mesh

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Session keeps the calls of one client at the endpoint that answered the first, while it is there. Its
// address travels with the client.
// https://gateway-api.sigs.k8s.io/geps/gep-1619/
type Session struct {
	// Header is set where a header carries the session, not a cookie. A client repeats what the answer
	// holds in it.
	Header bool
	// Name of the cookie or, in lower case, the header.
	Name string
	// MaxAge of the cookie in whole seconds; 0 is a cookie of the client's session.
	MaxAge time.Duration
	// ByRule is set for a rule's session: its cookie is for the path that the rule matched, that of a Service
	// for the client's default.
	ByRule bool
}

// readSession reads sessionPersistence; origin is what the session belongs to.
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
		// Envoy has such a bound for cookies with Max-Age only, by a clock that the sidecars of different
		// nodes do not share.
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

// session of a rule's backend: "the session persistence configuration in the Route takes precedence".
func (b *builder) session(rule *routeRule, target Target) *Session {
	if rule.session != nil {
		return rule.session
	}
	if svc := b.in.Services[target.Service]; svc != nil {
		return svc.Traffic.Session
	}
	return nil
}

// pin gives each of several backends a session of its own, so that the name of the cookie that a client
// sends tells its backend: "the persistence to a single backend MUST be maintained across services, even
// if the weight is set to 0". The first with a name keeps it, so that a backend that is added behind it
// ends no session. Where not all have a session nothing is pinned: those that have one would collect the
// clients of the others.
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

// shortHash gives eight characters.
func shortHash(text string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails
	return fmt.Sprintf("%08x", h.Sum32())
}
