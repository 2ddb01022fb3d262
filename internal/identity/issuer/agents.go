package issuer

import (
	"crypto/x509"
	"encoding/hex"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
)

// agentGrace is how long an agent counts as connected after its last request. Normally the agent sends the next request
// at once, to any replica.
const agentGrace = 2 * api.BundleWait

// agents records the bundle of each connected agent.
type agents struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[string]*agent // by pod UID
	// forgot is the time of the last search for agents that are gone.
	forgot time.Time
}

type agent struct {
	have, issuer string
	waiting      int       // requests that wait for a bundle
	left         time.Time // the end of the last request
}

// enter records an agent's request and its bundle. leave ends the request.
func (a *agents) enter(uid, have string, cert *x509.Certificate) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now().Sub(a.forgot) > agentGrace {
		a.forget()
	}
	g := a.of[uid]
	if g == nil {
		g = &agent{}
		a.of[uid] = g
	}
	g.have, g.issuer = have, hex.EncodeToString(cert.AuthorityKeyId)
	g.waiting++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		g.waiting--
		g.left = a.now()
	}
}

func (a *agents) forget() {
	a.forgot = a.now()
	for uid, g := range a.of {
		if g.waiting == 0 && a.now().Sub(g.left) > agentGrace {
			delete(a.of, uid)
		}
	}
}

// report counts the agents by bundle.
func (a *agents) report(bundle, signer string) authority.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget()
	r := authority.Report{Bundle: bundle, Signer: signer, Have: map[string]int{}, Issuers: map[string]int{}}
	for _, g := range a.of {
		r.Have[g.have]++
		r.Issuers[g.issuer]++
	}
	return r
}
