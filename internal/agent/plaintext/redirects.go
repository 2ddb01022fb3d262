package plaintext

import (
	"net/netip"
	"sync"
	"time"
)

// redirectedFor is how long after a redirect Envoy may report the kubelet's call. The kubelet follows at once, and a busy
// Envoy reports within seconds.
const redirectedFor = 10 * time.Second

// redirects are probes that the agent has redirected to the application, because nobody listened there. If somebody
// listens by the time that the kubelet follows, its call reaches the application as one in plain text.
type redirects struct {
	now func() time.Time

	mu sync.Mutex
	// by has the last redirect of each probe and hook.
	by map[string]*redirect
}

type redirect struct {
	key
	until time.Time
	// called and judged are whether the call was reported, and its refusal in dry run.
	called, judged bool
}

// Redirected says that the agent has redirected the kubelet at source to a port of the application, by this probe or
// hook. The one call that follows is no caller's. Mostly none follows, as the kubelet is refused, too: then the next call from its
// address to this port within some seconds is left out in its place. A caller that lasts calls again.
//
// It does nothing for nil, in a mesh without identities.
func (c *Callers) Redirected(probe string, source netip.Addr, port uint16) {
	if c == nil {
		return
	}
	c.sentOn.mu.Lock()
	defer c.sentOn.mu.Unlock()
	c.sentOn.by[probe] = &redirect{key: key{source: source.Unmap().WithZone(""), port: port}, until: c.now().Add(redirectedFor)}
}

// called reports whether a call follows a redirect. The next one does not.
func (r *redirects) called(at key) bool {
	return r.first(at, func(r *redirect) *bool { return &r.called })
}

// judged is called, for the refusal of a call in dry run, which is another report.
func (r *redirects) judged(at key) bool {
	return r.first(at, func(r *redirect) *bool { return &r.judged })
}

func (r *redirects) first(at key, reported func(*redirect) *bool) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.by {
		if before := reported(one); one.key == at && !*before && !r.now().After(one.until) {
			*before = true
			return true
		}
	}
	return false
}
