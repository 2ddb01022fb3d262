package casecret_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/casecret/casecrettest"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

var lifetimes = rotation.Lifetimes{CA: ca.Options{CommonName: "test"}, CALifetime: 90 * time.Minute, LeafLifetime: 10 * time.Minute, Settle: 2 * time.Minute}

const grace = 4 * time.Second

type replica struct {
	*casecret.Store
	*casecrettest.Replica
	options casecret.Options
}

func newReplica(t *testing.T, w *casecrettest.World) *replica {
	t.Helper()
	r, o := w.Replica(true, lifetimes)
	s, err := casecret.New(o, casecret.Kind{
		Name: "test CA", EventReason: "TestCA", MetricPrefix: "test_ca", Whose: "the test's", Signs: "nothing",
		Doing: "testing", Remedy: "mend it", RestoreGrace: grace, Leaf: ca.Leaf{CommonName: "test", Lifetime: lifetimes.LeafLifetime},
		Decode: func(s *corev1.Secret) (rotation.State, error) { return rotation.Decode(s.Data, "crt", "key") },
		Encode: func(s *corev1.Secret, state rotation.State) (err error) {
			s.Data, err = rotation.Encode(state, "crt", "key")
			return err
		},
		Owners: func(ctx context.Context, _ *corev1.Secret) ([]metav1.OwnerReference, error) {
			owner, err := o.Owner(ctx)
			return []metav1.OwnerReference{owner}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &replica{s, r, o}
}

// read reads the Secret of a cluster that has had this CA.
func (r *replica) read(t *testing.T, predecessor *casecret.Predecessor) (bool, error) {
	t.Helper()
	return r.Read(t.Context(), func(context.Context) (*casecret.Predecessor, error) { return predecessor, nil })
}

// Where nobody remembers a CA that the cluster has had, it is waited for. Then a new one takes its place, or must not.
func TestPredecessor(t *testing.T) {
	for name, lost := range map[string]bool{"that may be replaced": false, "that may not": true} {
		t.Run(name, func(t *testing.T) {
			w := casecrettest.New(t, "ca")
			r := newReplica(t, w)
			predecessor := &casecret.Predecessor{}
			if lost {
				predecessor.Lost = r.options.Missing("7", errors.New("is missing"), "find it")
			}
			for _, wait := range []time.Duration{0, grace - 1} {
				w.Now = casecrettest.Epoch.Add(wait)
				if _, err := r.read(t, predecessor); !errors.Is(err, casecret.ErrWaiting) || w.HasSecret() {
					t.Fatalf("after %s: %v, Secret made: %t", wait, err, w.HasSecret())
				}
			}
			w.Now = casecrettest.Epoch.Add(grace)
			for range 2 {
				if current, err := r.read(t, predecessor); err != nil || current == lost || w.HasSecret() == lost {
					t.Errorf("current %t, error %v, Secret made: %t", current, err, w.HasSecret())
				}
			}
			if want := map[bool]string{true: "Secret mizzen-system/ca: is missing (find it)"}[lost]; r.Note() != want {
				t.Errorf("note %q, want %q", r.Note(), want)
			}
			if got := len(r.Recorder.Events); (got == 1) != lost {
				t.Errorf("%d events", got)
			}
		})
	}
}

// A Secret that cannot be used is named once for each version of it, and is not written. Deleted, it comes back as it
// was last good, but for its owner.
func TestUnusableAndRestored(t *testing.T) {
	w := casecrettest.New(t, "ca")
	r := newReplica(t, w)
	if _, err := r.read(t, nil); err != nil {
		t.Fatal(err)
	}
	w.UpdateSecret(func(s *corev1.Secret) { s.Labels["theirs"] = "yes" })
	if _, err := r.read(t, nil); err != nil {
		t.Fatal(err)
	}
	good := w.Secret()
	for version := 1; version <= 2; version++ {
		w.UpdateSecret(func(s *corev1.Secret) { s.Data["key"] = slices.Repeat([]byte("x"), version) })
		bad := w.Secret().ResourceVersion
		for range 2 {
			if current, err := r.read(t, nil); err != nil || current {
				t.Errorf("current %t, error %v", current, err)
			}
		}
		if !strings.Contains(r.Note(), "(mend it); testing with the CA in memory") || w.Secret().ResourceVersion != bad {
			t.Errorf("note %q, version %s, want %s", r.Note(), w.Secret().ResourceVersion, bad)
		}
		if n := w.Metric(r.Replica, "test_ca_secret_errors_total", "Unparsable"); len(r.Recorder.Events) != version || n != float64(2*version) {
			t.Errorf("%d events, %v counted", len(r.Recorder.Events), n)
		}
	}
	w.DeleteSecret()
	w.Uninstalled = true
	if _, err := r.read(t, nil); err == nil || w.HasSecret() {
		t.Errorf("while the release is uninstalled: %v, Secret made: %t", err, w.HasSecret())
	}
	w.Uninstalled = false
	if current, err := r.read(t, nil); err != nil || !current || r.Note() != "" {
		t.Errorf("current %t, error %v, note %q", current, err, r.Note())
	}
	after := w.Secret()
	if after.Labels["theirs"] != "yes" || string(after.Data["key"]) != string(good.Data["key"]) || len(after.OwnerReferences) != 1 {
		t.Errorf("restored: %+v", after)
	}
	if w.Metric(r.Replica, "test_ca_secret_usable", "") != 1 {
		t.Error("not usable by its metric")
	}
}
