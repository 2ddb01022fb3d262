package leader_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mizzen-mesh/mizzen/internal/leader"
)

func TestOneLeaderAtATimeAndTheLeaseHasAnOwner(t *testing.T) {
	client := fake.NewClientset()
	start := func(id string) (*leader.Elector, context.CancelFunc, <-chan struct{}, <-chan struct{}) {
		e := leader.New(leader.Options{
			Client: client.CoordinationV1(), Namespace: "mizzen-system", Name: "mizzen-controller", Identity: id,
			Owner: func(context.Context) (metav1.OwnerReference, error) {
				return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: "mizzen-controller", UID: "1"}, nil
			},
			Log: logr.Discard(),
		})
		led, stopped := make(chan struct{}), make(chan struct{})
		e.OnLead(func(ctx context.Context) { close(led); <-ctx.Done() })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(stopped); _ = e.Run(ctx) }()
		return e, cancel, led, stopped
	}
	a, stopA, ledA, stoppedA := start("a")
	wait(t, ledA, "a to lead")
	b, stopB, ledB, stoppedB := start("b")
	if !a.IsLeader() || b.IsLeader() {
		t.Fatalf("a leads: %v, b leads: %v", a.IsLeader(), b.IsLeader())
	}
	lease, err := client.CoordinationV1().Leases("mizzen-system").Get(t.Context(), "mizzen-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(lease.OwnerReferences) != 1 || lease.OwnerReferences[0].Kind != "Service" {
		t.Errorf("owners of the Lease: %v", lease.OwnerReferences)
	}
	stopA()
	wait(t, stoppedA, "a to stop")
	if a.IsLeader() {
		t.Error("a leads after its end")
	}
	wait(t, ledB, "b to lead after a gave the Lease back")
	stopB()
	wait(t, stoppedB, "b to stop")
}

func TestNoLeaseWithoutAnOwner(t *testing.T) {
	client := fake.NewClientset()
	e := leader.New(leader.Options{
		Client: client.CoordinationV1(), Namespace: "n", Name: "l", Identity: "a", Log: logr.Discard(),
		Owner: func(context.Context) (metav1.OwnerReference, error) {
			return metav1.OwnerReference{}, errors.New("the release is gone")
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = e.Run(ctx)
	leases, err := client.CoordinationV1().Leases("n").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(leases.Items) != 0 {
		t.Errorf("leases %v, error %v", leases.Items, err)
	}
}

func TestAlone(t *testing.T) {
	e := leader.Alone()
	led := make(chan struct{})
	e.OnLead(func(context.Context) { close(led) })
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = e.Run(ctx) }()
	wait(t, led, "it to lead")
	cancel()
	wait(t, stopped, "its end")
	if e.IsLeader() {
		t.Error("leads after its end")
	}
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("waited in vain for " + what)
	}
}
