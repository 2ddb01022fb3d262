package authority

import (
	"bytes"
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

func roots(r *replica) string { b, _, _ := r.Bundle(); return b }

func TestFirstInstall(t *testing.T) {
	w := newWorld(t)
	one, two := w.replica(true), w.replica(false)
	if one.Ready() == nil {
		t.Error("ready without a CA")
	}
	w.reconcile(one, two)
	s := w.Secret()
	if !managed(s) || s.Type != corev1.SecretTypeTLS || len(s.OwnerReferences) != 1 {
		t.Errorf("the Secret: %s, %v, %v", s.Type, s.Annotations, s.OwnerReferences)
	}
	if string(s.Data[keyRoots]) != roots(one) || roots(one) == "" || roots(one) != roots(two) {
		t.Error("the bundles differ")
	}
	for _, r := range []*replica{one, two} {
		if err := r.Ready(); err != nil {
			t.Error(err)
		}
		if err := r.Verify([]*x509.Certificate{w.leaf(one)}); err != nil {
			t.Error(err)
		}
	}
}

func TestSecretIsRestored(t *testing.T) {
	for name, theirs := range map[string]bool{"of ours": false, "of somebody's own": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			root := w.newRoot(time.Hour)
			if theirs {
				w = newWorld(t, ownSecret(w.data(root, root)))
			}
			r, fresh := w.replica(false), w.replica(true)
			w.reconcile(r)
			before, bundle := w.Secret(), roots(r)
			w.DeleteSecret()
			w.reconcile(fresh) // one that remembers nothing leaves it to one that does
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(before), &corev1.Secret{}); !apierrors.IsNotFound(err) {
				t.Fatalf("it was made anew: %v", err)
			}
			w.reconcile(r, fresh)
			after := w.Secret()
			for key := range before.Data {
				if !bytes.Equal(before.Data[key], after.Data[key]) {
					t.Errorf("%s is another", key)
				}
			}
			if managed(after) == theirs || (after.Labels["theirs"] == "yes") != theirs {
				t.Errorf("it is marked %v %v", after.Labels, after.Annotations)
			}
			if roots(r) != bundle || roots(fresh) != bundle {
				t.Error("another bundle")
			}
		})
	}
}

// A Secret that cannot be used is named, and what was good goes on.
func TestBrokenSecret(t *testing.T) {
	w := newWorld(t)
	root, other, short := w.newRoot(24*time.Hour), w.newRoot(24*time.Hour), w.newRoot(time.Minute)
	long, short2 := w.newCA("long", time.Hour, nil), w.newCA("short", time.Minute, nil)
	leafCert, err := root.Issue(ca.Leaf{CommonName: "leaf", Now: w.Now, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	good := func(change func(d map[string][]byte)) map[string][]byte {
		d := w.data(root, root)
		change(d)
		return d
	}
	tests := []struct {
		name, reason string
		data         map[string][]byte
	}{
		{"empty", "Unparsable", nil},
		{"no PEM", "Unparsable", good(func(d map[string][]byte) { d[corev1.TLSCertKey] = []byte("x") })},
		{"a cut key", "Unparsable", good(func(d map[string][]byte) { d[corev1.TLSPrivateKeyKey] = d[corev1.TLSPrivateKeyKey][:50] })},
		{"a broken root", "Unparsable", good(func(d map[string][]byte) { d[keyRoots] = []byte("x") })},
		{"another's key", "KeyMismatch", good(func(d map[string][]byte) { d[corev1.TLSPrivateKeyKey] = w.data(other)[corev1.TLSPrivateKeyKey] })},
		{"not a CA", "NotCA", good(func(d map[string][]byte) { d[corev1.TLSCertKey] = ca.EncodeCertificates(leafCert.Leaf) })},
		{"a root that is none", "NotCA", good(func(d map[string][]byte) { d[keyRoots] = ca.EncodeCertificates(leafCert.Leaf) })},
		{"another root", "NoChain", good(func(d map[string][]byte) { d[keyRoots] = other.CertPEM() })},
		{"a root that allows no CA below it", "NoChain", w.data(w.newCA("intermediate", time.Hour, root), root)},
		{"one that may not sign the mesh's names", "NoChain", w.data(w.newCA("x", time.Hour, long, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
		}), long)},
		{"expired", "Expired", w.data(short, short)},
		{"a root that has expired", "Expired", w.data(w.newCA("intermediate", time.Hour, short2), short2)},
	}
	w.Now = w.Now.Add(2 * time.Minute)
	for _, tt := range tests {
		for name, began := range map[string]bool{"": false, ", with a CA in memory": true} {
			t.Run(tt.name+name, func(t *testing.T) {
				now := w.Now
				w := newWorld(t)
				w.Now = now
				r := w.replica(true)
				if began {
					w.reconcile(r)
					w.UpdateSecret(func(s *corev1.Secret) { s.Data = tt.data })
				} else if err := w.Client.Create(t.Context(), ownSecret(tt.data)); err != nil {
					t.Fatal(err)
				}
				bundle := roots(r)
				w.reconcile(r, r)
				if (r.Ready() == nil) != began {
					t.Errorf("ready: %v", r.Ready())
				}
				if roots(r) != bundle {
					t.Error("the bundle changed")
				}
				if note := r.Note(); !strings.Contains(note, testSecret) || strings.Contains(note, "PRIVATE") {
					t.Errorf("note %q", note)
				}
				if got := w.Metric(r.Replica, "mizzen_identity_ca_secret_errors_total", tt.reason); got != 2 {
					t.Errorf("%v errors counted as %s, want 2", got, tt.reason)
				}
				var told []string
				for len(r.Recorder.Events) > 0 {
					if e := <-r.Recorder.Events; strings.HasPrefix(e, "Warning") {
						told = append(told, e)
					}
				}
				if len(told) != 1 || !strings.Contains(told[0], "IdentityCA"+tt.reason) || !strings.Contains(told[0], "delete the Secret") {
					t.Errorf("events %q, want one", told)
				}
				var complaints []string
				for len(r.Logged) > 0 {
					if line := <-r.Logged; strings.Contains(line, "cannot be used") {
						complaints = append(complaints, line)
					}
				}
				if len(complaints) != 1 || !strings.Contains(complaints[0], `"reason"="`+tt.reason+`"`) || !strings.Contains(complaints[0], "delete the Secret") || strings.Contains(complaints[0], "PRIVATE KEY-----") {
					t.Errorf("log %q, want one line", complaints)
				}
				if !sameData(w.Secret().Data, tt.data) {
					t.Error("it was overwritten")
				}
			})
		}
	}
}

func sameData(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if !bytes.Equal(a[k], b[k]) {
			return false
		}
	}
	return true
}

// Somebody's own CA with an intermediate signs, is sent with its chain, and is never written.
func TestOwnChain(t *testing.T) {
	w := newWorld(t)
	root := w.newCA("own root", 10*time.Hour, nil)
	intermediate := w.newCA("own intermediate", 5*time.Hour, root)
	w = newWorld(t, ownSecret(w.data(intermediate, root)))
	before := w.Secret()
	r := w.replica(true)
	w.reconcile(r)
	if roots(r) != api.Roots(root.Certificate()) {
		t.Errorf("bundle:\n%s", roots(r))
	}
	cert, err := r.TLS(true).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.Certificate) != 2 {
		t.Errorf("%d certificates are sent, want 2", len(cert.Certificate))
	}
	if err := r.Verify([]*x509.Certificate{cert.Leaf, intermediate.Certificate()}); err != nil {
		t.Error(err)
	}
	if r.Verify([]*x509.Certificate{cert.Leaf}) == nil {
		t.Error("a leaf without its intermediate is accepted")
	}
	w.after(4*time.Hour, r)
	if after := w.Secret(); after.ResourceVersion != before.ResourceVersion {
		t.Error("it was written")
	}
	w.Now = w.Now.Add(2 * time.Hour)
	w.reconcile(r)
	if !strings.Contains(r.Note(), "has expired") {
		t.Errorf("note %q", r.Note())
	}
}

// Another CA of somebody's own is trusted first, signs later, and the one before is forgotten at last.
func TestOwnCAChanges(t *testing.T) {
	w := newWorld(t)
	first, second := w.newRoot(100*time.Hour), w.newRoot(100*time.Hour)
	w = newWorld(t, ownSecret(w.data(first, first)))
	r := w.replica(false)
	w.reconcile(r)
	w.UpdateSecret(func(s *corev1.Secret) { s.Data = w.data(second, second) })
	var phases []string
	for range 40 {
		phases = append(phases, phase(r, first, second))
		w.after(30*time.Second, r)
	}
	want := []string{"signs 1, trusts 1", "signs 1, trusts 12", "signs 2, trusts 12", "signs 2, trusts 2"}
	if got := slices.Compact(phases); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func phase(r *replica, first, second *ca.Authority) string {
	s := r.view.Load().state
	out := "signs 1"
	if s.Signer.Equal(second) {
		out = "signs 2"
	}
	out += ", trusts "
	for i, a := range []*ca.Authority{first, second} {
		if slices.ContainsFunc(s.Trusted(), a.Certificate().Equal) {
			out += string('1' + rune(i))
		}
	}
	return out
}

// One of ours that somebody has broken is not overwritten either.
func TestBrokenSecretOfOurs(t *testing.T) {
	for name, change := range map[string]func(w *world, d map[string][]byte){
		"another's key": func(w *world, d map[string][]byte) {
			d[corev1.TLSPrivateKeyKey] = w.data(w.newRoot(time.Hour))[corev1.TLSPrivateKeyKey]
		},
		"no key":          func(_ *world, d map[string][]byte) { delete(d, corev1.TLSPrivateKeyKey) },
		"a broken next":   func(_ *world, d map[string][]byte) { d[rotation.KeyNextCert] = []byte("x") },
		"broken old ones": func(_ *world, d map[string][]byte) { d[rotation.KeyPrevious] = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.replica(true)
			w.reconcile(r)
			bundle := roots(r)
			w.UpdateSecret(func(s *corev1.Secret) { change(w, s.Data) })
			broken := w.Secret()
			w.reconcile(r)
			if r.Note() == "" || r.Ready() != nil || roots(r) != bundle {
				t.Errorf("note %q, ready %v", r.Note(), r.Ready())
			}
			if w.Secret().ResourceVersion != broken.ResourceVersion {
				t.Error("it was overwritten")
			}
			w.DeleteSecret() // the remedy
			w.reconcile(r)
			if r.Note() != "" || roots(r) != bundle || !managed(w.Secret()) {
				t.Errorf("after the remedy: note %q", r.Note())
			}
		})
	}
}

// Only what was signed for a pod of this mesh names one.
func TestPod(t *testing.T) {
	w := newWorld(t)
	r := w.replica(true)
	w.reconcile(r)
	id := spiffe.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	sign := func(l ca.Leaf) *x509.Certificate {
		l.Now, l.Lifetime = w.Now, time.Hour
		cert, err := r.view.Load().state.Signer.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf
	}
	long := strings.Repeat("p", 253)
	for name, pod := range map[string]string{"a short name": "web-1", "the longest name": long} {
		got, err := r.Identify(sign(PodLeaf(id, pod, "uid")))
		if want := (node.Identity{Namespace: "shop", Pod: pod, UID: "uid", ServiceAccount: "web"}); got != want || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, l := range map[string]ca.Leaf{
		"another trust domain": PodLeaf(spiffe.ID{TrustDomain: "evil", Namespace: "shop", ServiceAccount: "web"}, "web-1", "uid"),
		"no UID":               PodLeaf(id, "web-1", ""),
		"no pod":               PodLeaf(id, "", "uid"),
		"a replica's":          ServingLeaf(id, "a.b"),
		"no URI":               {CommonName: "shop/web-1", SerialNumber: "uid"},
		"two URIs":             {CommonName: "shop/web-1", SerialNumber: "uid", URIs: []*url.URL{id.URL(), id.URL()}},
		"another namespace":    {CommonName: "bank/web-1", SerialNumber: "uid", URIs: []*url.URL{id.URL()}},
	} {
		if got, err := r.Identify(sign(l)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	old := sign(PodLeaf(id, "web-1", "uid"))
	w.Now = w.Now.Add(time.Hour + time.Second)
	if _, err := r.Identify(old); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired one: %v", err)
	}
}
