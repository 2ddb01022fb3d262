package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/story"
)

// demo is one run.
type demo struct {
	story.Story
	term  *terminal
	calls int

	before, after measurement
	// outside are calls from this machine, by pod.
	outside map[string]int
	// containers of the client pod once it is in the mesh.
	containers []string
}

// measurement is calls by pod.
type measurement struct{ http, grpc map[string]int }

// reset brings the namespace to the state before the mesh, whatever an earlier run left.
func (d *demo) reset(ctx context.Context, say func(string)) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: d.Namespace}}
	if _, err := d.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := d.Label(ctx, false); err != nil {
		return err
	}
	pods, err := d.Pods(ctx, d.Namespace, "")
	if err != nil {
		return err
	}
	if err := d.Apply(ctx); err != nil {
		return err
	}
	// Pods of an earlier run hold sidecars and old connections.
	if len(pods) > 0 {
		if err := d.RestartAll(ctx); err != nil {
			return err
		}
	}
	if err := d.Settled(ctx, say); err != nil {
		return err
	}
	say("kube-proxy follows")
	return d.Reachable(ctx)
}

// mesh is all a user does: label, restart.
func (d *demo) mesh(ctx context.Context, say func(string)) error {
	if err := d.Label(ctx, true); err != nil {
		return err
	}
	if err := d.RestartAll(ctx); err != nil {
		return err
	}
	if err := d.Settled(ctx, say); err != nil {
		return err
	}
	pod, err := d.ClientPod(ctx)
	if err != nil {
		return err
	}
	d.containers = cluster.Containers(pod)
	if !slices.Contains(d.containers, config.ProxyContainer) {
		return fmt.Errorf("pod %s got no sidecar; its containers: %s", pod.Name, strings.Join(d.containers, ", "))
	}
	return nil
}

func (d *demo) gateway(ctx context.Context, say func(string)) error {
	if err := d.ApplyGateway(ctx); err != nil {
		return err
	}
	say("waiting for its address and its pods")
	_, err := d.OutsideAddress(ctx)
	return err
}

func (d *demo) measureOutside(ctx context.Context, say func(string)) (err error) {
	d.outside, err = d.MeasureOutside(ctx, d.calls, say)
	return err
}

func (d *demo) measure(into *map[string]int, endpoint string) func(context.Context, func(string)) error {
	return func(ctx context.Context, say func(string)) (err error) {
		*into, err = d.Measure(ctx, endpoint, d.calls, say)
		return err
	}
}
