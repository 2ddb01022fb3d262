package casecret

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// FieldManager is the name under which the control plane writes.
const FieldManager = "mizzen-controller"

// Labels are those of an object that the control plane creates.
func Labels() map[string]string {
	return map[string]string{"app.kubernetes.io/part-of": "mizzen", "app.kubernetes.io/managed-by": FieldManager}
}

// Options are what every kind of CA needs. All fields are required.
type Options struct {
	// Namespace of the control plane, SecretName of the CA in it.
	Namespace, SecretName string
	Lifetimes             rotation.Lifetimes

	Client client.Client
	// Reader reads from the API server, not from a cache.
	Reader client.Reader
	// Owner returns what an object that is created here is deleted with. An error may mean that the release is being
	// uninstalled, so nothing is created then.
	Owner func(context.Context) (metav1.OwnerReference, error)
	// IsLeader reports whether this replica may rotate the CA.
	IsLeader func() bool
	// ReadOnly is that this replica writes nothing: the CA is another control plane's. It waits until there is one.
	ReadOnly   bool
	Recorder   events.EventRecorder
	Registerer prometheus.Registerer
	Log        logr.Logger
	// Now is the clock.
	Now func() time.Time
}

// Key names the Secret.
func (o *Options) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: o.Namespace, Name: o.SecretName}
}

// Kind is what one CA has of its own.
type Kind struct {
	// Name begins the lines of the log, EventReason those of events and MetricPrefix the metrics' names.
	Name, EventReason, MetricPrefix string
	// Whose CA it is, and what it signs, in the metrics' help.
	Whose, Signs string
	// Doing is what a replica does with the CA: "serving" or "signing".
	Doing string
	// Remedy is what to do about a Secret that cannot be read.
	Remedy string
	// RestoreGrace is how long a replica that remembers nothing waits, where the cluster has had a CA: a replica that
	// remembers it has restored it by then.
	RestoreGrace time.Duration
	// Leaf is this replica's own certificate.
	Leaf ca.Leaf

	// Decode reads a Secret. Its error names the key and wraps a reason of package ca. An expired CA is no error if the
	// leader may replace it.
	Decode func(*corev1.Secret) (rotation.State, error)
	// Encode writes a state into a Secret.
	Encode func(*corev1.Secret, rotation.State) error
	// Owners are those of a Secret that is created.
	Owners func(context.Context, *corev1.Secret) ([]metav1.OwnerReference, error)
	// Created is called after a Secret has been created; how says from what. It may be nil.
	Created func(secret *corev1.Secret, how string)
}

// Before returns the CA that the cluster has had, nil if there was none.
type Before func(context.Context) (*Predecessor, error)

// Predecessor is a CA that the cluster has had.
type Predecessor struct {
	// Lost is what is wrong if no replica restores the Secret, for a CA that must not be replaced by a new one. With nil
	// a new one is made.
	Lost *Unusable
}
