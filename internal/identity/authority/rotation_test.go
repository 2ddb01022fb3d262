package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// sidecar is an agent with its Envoy: it takes a new bundle some time after it can have it, and renews its
// certificate after half to 70 % of its life.
type sidecar struct {
	at      int           // the replica that it polls
	lag     time.Duration // from a bundle to Envoy's acknowledgement
	leaf    *x509.Certificate
	renewAt time.Time
	bundle  string // what Envoy trusts
	have    string
	coming  string
	since   time.Time
}

// mesh is a world with replicas and sidecars at random.
type mesh struct {
	*world
	rng      *rand.Rand
	replicas []*replica
	sidecars []*sidecar
	csr      *x509.CertificateRequest
	checked  map[[2]string]bool
}

func newMesh(t *testing.T, p rotation.Lifetimes, lag time.Duration, seed uint64) *mesh {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(cryptorand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, seed)), checked: map[[2]string]bool{}}
	if m.csr, err = x509.ParseCertificateRequest(der); err != nil {
		t.Fatal(err)
	}
	m.policy = p
	m.replicas = []*replica{m.replica(true), m.replica(false), m.replica(false)}
	m.reconcile(m.replicas...)
	for i, lag := range []time.Duration{0, lag / 2, lag} {
		m.sidecars = append(m.sidecars, &sidecar{at: i, lag: lag}, &sidecar{at: i, lag: lag})
	}
	m.agents = m.reports
	return m
}

// reports are what issuer.Server tells.
func (m *mesh) reports() Agents {
	var out Agents
	for i, r := range m.replicas {
		_, version, _ := r.Bundle()
		report := Report{Bundle: version, Signer: r.Signer(), Have: map[string]int{}, Issuers: map[string]int{}}
		for _, s := range m.sidecars {
			if s.at == i && s.leaf != nil {
				report.Have[s.have]++
				report.Issuers[hex.EncodeToString(s.leaf.AuthorityKeyId)]++
			}
		}
		out.Reports = append(out.Reports, report)
	}
	return out
}

// step lets 15 seconds pass.
func (m *mesh) step(n int) {
	m.T.Helper()
	m.Now = m.Now.Add(15 * time.Second)
	for i, r := range m.replicas {
		looks := m.rng.Float64() < 0.7
		if i == 2 { // nearly cut off
			looks = n%(8*4) == 0
		}
		if looks {
			m.reconcile(r)
		}
	}
	if m.rng.Float64() < 0.005 {
		leader := m.rng.IntN(2)
		for i, r := range m.replicas {
			r.Leader = i == leader
		}
	}
	for _, s := range m.sidecars {
		if m.rng.Float64() < 0.02 {
			s.at = m.rng.IntN(len(m.replicas))
		}
		m.live(s)
	}
}

// live is what a sidecar does.
func (m *mesh) live(s *sidecar) {
	m.T.Helper()
	if s.leaf == nil || !m.Now.Before(s.renewAt) {
		id := spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
		text, err := m.replicas[m.rng.IntN(len(m.replicas))].Sign(PodLeaf(id, "web-1", "uid"), m.csr)
		if err != nil {
			m.T.Fatal(err)
		}
		certs, err := ca.ParseCertificates(text)
		if err != nil {
			m.T.Fatal(err)
		}
		s.leaf = certs[0]
		life := s.leaf.NotAfter.Sub(m.Now)
		s.renewAt = m.Now.Add(life/2 + time.Duration(m.rng.Int64N(int64(life/5)+1)))
	}
	bundle, version, _ := m.replicas[s.at].Bundle()
	if version != s.coming {
		s.coming, s.since = version, m.Now
	}
	if s.have == "" || version != s.have && m.Now.Sub(s.since) >= s.lag {
		s.bundle, s.have = bundle, version
	}
}

// broken is the first call that fails: of a sidecar to another, to a replica, or of a replica's answer.
func (m *mesh) broken() error {
	for i, from := range m.sidecars {
		for j, to := range m.sidecars {
			if err := m.verify(from.leaf, to.bundle); err != nil {
				return fmt.Errorf("sidecar %d to %d: %w", i, j, err)
			}
		}
		for j, r := range m.replicas {
			bundle, _, _ := r.Bundle()
			if err := m.verify(from.leaf, bundle); err != nil {
				return fmt.Errorf("sidecar %d to replica %d: %w", i, j, err)
			}
			if err := m.verify(m.leaf(r), from.bundle); err != nil {
				return fmt.Errorf("replica %d to sidecar %d: %w", j, i, err)
			}
		}
	}
	return nil
}

// verify remembers what it has found.
func (m *mesh) verify(leaf *x509.Certificate, bundle string) error {
	if m.Now.After(leaf.NotAfter) {
		return fmt.Errorf("expired at %s", leaf.NotAfter)
	}
	key := [2]string{string(leaf.Raw), bundle}
	if m.checked[key] {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: m.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	m.checked[key] = err == nil
	return err
}

// run lets four hours pass. It gives the first call that fails, and the roots that signed.
func (m *mesh) run(each func(step int)) (error, []string) { //nolint:revive,staticcheck // the error is the result
	var signers []string
	for n := 1; n <= int(4*time.Hour/(15*time.Second)); n++ {
		if each != nil {
			each(n)
		}
		m.step(n)
		if name := m.replicas[0].view.Load().state.Signer.Certificate().Subject.CommonName; !slices.Contains(signers, name) {
			signers = append(signers, name)
		}
		if err := m.broken(); err != nil {
			return fmt.Errorf("after %s: %w", m.Now.Sub(epoch), err), signers
		}
	}
	return nil, signers
}

// With agents that take longer than the settle time, replicas that look seldom, and leaders that change.
func TestNoCallFailsAcrossRotations(t *testing.T) {
	for seed := range uint64(3) {
		m := newMesh(t, testPolicy, 3*testPolicy.Settle, seed)
		err, signers := m.run(nil)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if len(signers) < 4 {
			t.Errorf("seed %d: signed by %q in 4 h: the CA was not rotated", seed, signers)
		}
		if n := strings.Count(roots(m.replicas[0]), "BEGIN"); n > 3 {
			t.Errorf("seed %d: %d roots are trusted at the end: nothing is forgotten", seed, n)
		}
	}
}

// The simulation must be able to fail: with agents that nobody asks, and without a settle time.
func TestTheSimulationSees(t *testing.T) {
	t.Run("agents that are not asked", func(t *testing.T) {
		m := newMesh(t, testPolicy, 4*testPolicy.Settle, 1)
		m.agents = func() Agents { return Agents{} }
		if err, _ := m.run(nil); err == nil {
			t.Error("no call failed")
		}
	})
	t.Run("a missing settle time", func(t *testing.T) {
		p := testPolicy
		p.Settle = 0
		if err, _ := newMesh(t, p, 2*time.Minute, 1).run(nil); err == nil {
			t.Error("no call failed")
		}
	})
}

// Nor when somebody's own CA takes the place of ours, and another the place of that.
func TestNoCallFailsWhenTheCAIsReplaced(t *testing.T) {
	for seed := range uint64(3) {
		m := newMesh(t, testPolicy, 3*testPolicy.Settle, seed)
		own := []*ca.Authority{m.newCA("one", 100*time.Hour, nil), m.newCA("two", 100*time.Hour, nil)}
		err, signers := m.run(func(step int) {
			if i := step/240 - 1; step%240 == 0 && i < len(own) { // each hour
				m.UpdateSecret(func(s *corev1.Secret) { s.Data = m.data(own[i], own[i]) })
			}
		})
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if n := len(signers); n < 3 || signers[n-1] != "two" {
			t.Errorf("seed %d: signed by %q", seed, signers)
		}
		if n := strings.Count(roots(m.replicas[0]), "BEGIN"); n != 1 {
			t.Errorf("seed %d: %d roots are trusted at the end", seed, n)
		}
	}
}

// One that never takes the bundle holds a rotation up for a while, not for ever.
func TestPatienceEnds(t *testing.T) {
	w := newWorld(t)
	r := w.replica(true)
	w.reconcile(r)
	first := w.Secret()
	w.agents = func() Agents {
		_, version, _ := r.Bundle()
		return Agents{Reports: []Report{{Bundle: version, Have: map[string]int{"older": 1}}}}
	}
	w.Now = w.Now.Add(time.Hour) // a third is left
	w.reconcile(r, r)
	if len(w.Secret().Data[rotation.KeyNextCert]) == 0 {
		t.Fatal("no next CA")
	}
	signs := func() bool {
		return string(w.Secret().Data[corev1.TLSCertKey]) != string(first.Data[corev1.TLSCertKey])
	}
	// Half of what the old one lives is less than ten settle times.
	w.after(14*time.Minute, r)
	if signs() {
		t.Error("the next CA signs, although an agent lacks the bundle")
	}
	w.after(2*time.Minute, r)
	if !signs() {
		t.Error("an agent holds the rotation up until the CA has expired")
	}
}

func TestAgents(t *testing.T) {
	w := newWorld(t)
	one, two := w.newRoot(time.Hour), w.newRoot(time.Hour)
	state := rotation.State{Signer: two, Previous: one.Roots()}
	id := keyID
	for name, tt := range map[string]struct {
		agents                 Agents
		wantLacking, wantUsing int
	}{
		"nobody":                              {Agents{}, 0, 0},
		"a silent replica":                    {Agents{Silent: 1}, 1, 1},
		"pods that start":                     {Agents{Starting: map[string]int{"v": 2, "older": 3}}, 3, 0},
		"one without a CA":                    {Agents{Reports: []Report{{}}}, 1, 1},
		"all have it":                         {Agents{Reports: []Report{{Bundle: "v", Signer: id(two), Have: map[string]int{"v": 3}, Issuers: map[string]int{id(two): 3}}}}, 0, 0},
		"a replica signs with the one before": {Agents{Reports: []Report{{Bundle: "v", Signer: id(one)}}}, 0, 1},
		"a replica is behind": {Agents{Reports: []Report{{Bundle: "v", Signer: id(two)},
			{Bundle: "u", Signer: id(two), Have: map[string]int{"u": 2}, Issuers: map[string]int{id(one): 2}}}}, 3, 2},
		"some are behind": {Agents{Reports: []Report{{Bundle: "v", Signer: id(two),
			Have: map[string]int{"v": 1, "u": 2, "": 1}, Issuers: map[string]int{id(one): 1, id(two): 3}}}}, 3, 1},
	} {
		if got := tt.agents.lacking("v"); got != tt.wantLacking {
			t.Errorf("%s: %d lack it, want %d", name, got, tt.wantLacking)
		}
		if got := tt.agents.using(state); got != tt.wantUsing {
			t.Errorf("%s: %d use a previous one, want %d", name, got, tt.wantUsing)
		}
	}
}

// Everything may be asked for while the CA changes.
func TestConcurrentUse(t *testing.T) {
	p := testPolicy
	p.Settle = 0
	m := newMesh(t, p, 0, 1)
	r := m.replicas[0]
	own := []*ca.Authority{m.newCA("one", time.Hour, nil), m.newCA("two", time.Hour, nil)}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				text, err := r.Sign(PodLeaf(spiffe.ID{TrustDomain: "cluster.local", Namespace: "a", ServiceAccount: "b"}, "c", "d"), m.csr)
				if err != nil {
					t.Error(err)
					return
				}
				certs, err := ca.ParseCertificates(text)
				if err != nil {
					t.Error(err)
					return
				}
				if err := r.Verify(certs); err != nil {
					t.Error(err)
				}
				if _, err := r.TLS(true).GetCertificate(nil); err != nil {
					t.Error(err)
				}
				if bundle, version, _ := r.Bundle(); api.Version(bundle) != version {
					t.Error("the version is of another bundle")
				}
				_, _, _ = r.Ready(), r.Note(), r.Signer()
			}
		})
	}
	for i := range 50 {
		m.UpdateSecret(func(s *corev1.Secret) { s.Data = m.data(own[i%2], own[i%2]) })
		m.reconcile(r, r)
	}
	close(done)
	wg.Wait()
}
