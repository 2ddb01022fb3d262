// Package casecrettest is a cluster and a clock for the tests of whatever keeps a CA in a Secret. Only tests import it.
package casecrettest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// Of the control plane.
const (
	Namespace = "mizzen-system"
	Service   = "mizzen-controller"
)

// Epoch is when every World begins.
var Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// World is a cluster and a clock that several replicas share. It is used by one goroutine at a time.
type World struct {
	T      *testing.T
	Client client.Client
	Now    time.Time
	// Uninstalled makes the owner of the Secret disappear.
	Uninstalled bool

	secret client.ObjectKey
}

// New returns a World with these objects, whose CA is in the Secret of that name.
func New(t *testing.T, secret string, objects ...client.Object) *World {
	return &World{
		T: t, Now: Epoch, Client: fake.NewClientBuilder().WithObjects(objects...).Build(),
		secret: client.ObjectKey{Namespace: Namespace, Name: secret},
	}
}

// Replica is what a replica of the control plane has beside the cluster.
type Replica struct {
	Leader   bool
	Recorder *events.FakeRecorder
	Registry *prometheus.Registry
	// Logged are the lines of its log.
	Logged chan string
}

// Replica returns one, and the options of its CA.
func (w *World) Replica(leader bool, l rotation.Lifetimes) (*Replica, casecret.Options) {
	r := &Replica{Leader: leader, Recorder: events.NewFakeRecorder(100), Registry: prometheus.NewRegistry(), Logged: make(chan string, 10_000)}
	return r, casecret.Options{
		Namespace: w.secret.Namespace, SecretName: w.secret.Name, Lifetimes: l, Client: w.Client, Reader: w.Client,
		Owner: func(context.Context) (metav1.OwnerReference, error) {
			if w.Uninstalled {
				return metav1.OwnerReference{}, errors.New("service not found")
			}
			return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: Service, UID: "1"}, nil
		},
		IsLeader: func() bool { return r.Leader }, Recorder: r.Recorder, Registerer: r.Registry,
		Log: funcr.New(func(_, args string) { r.Logged <- args }, funcr.Options{}), Now: func() time.Time { return w.Now },
	}
}

// Metric returns the value of a metric, of the series with that reason unless it is empty. Without the series it is 0.
func (w *World) Metric(r *Replica, name, reason string) float64 {
	w.T.Helper()
	families, err := r.Registry.Gather()
	if err != nil {
		w.T.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if reason == "" || m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// HasSecret reports whether the Secret exists.
func (w *World) HasSecret() bool {
	w.T.Helper()
	err := w.Client.Get(w.T.Context(), w.secret, &corev1.Secret{})
	if client.IgnoreNotFound(err) != nil {
		w.T.Fatal(err)
	}
	return err == nil
}

// Secret returns the Secret, which must exist.
func (w *World) Secret() *corev1.Secret {
	w.T.Helper()
	s := &corev1.Secret{}
	if err := w.Client.Get(w.T.Context(), w.secret, s); err != nil {
		w.T.Fatal(err)
	}
	return s
}

// UpdateSecret is somebody's hand on the Secret.
func (w *World) UpdateSecret(change func(*corev1.Secret)) {
	w.T.Helper()
	s := w.Secret()
	change(s)
	if err := w.Client.Update(w.T.Context(), s); err != nil {
		w.T.Fatal(err)
	}
}

// DeleteSecret deletes it.
func (w *World) DeleteSecret() {
	w.T.Helper()
	if err := w.Client.Delete(w.T.Context(), w.Secret()); err != nil {
		w.T.Fatal(err)
	}
}
