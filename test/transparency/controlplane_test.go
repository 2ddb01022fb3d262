package transparency

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// cluster answers the issuer for the API server: a pod's token is its name.
type cluster map[string]*corev1.Pod

func (c cluster) Review(_ context.Context, token string) (issuer.Caller, error) {
	pod := c[token]
	if pod == nil {
		return issuer.Caller{}, issuer.ErrToken
	}
	return issuer.Caller{Namespace: pod.Namespace, ServiceAccount: pod.Spec.ServiceAccountName, Pod: pod.Name, UID: string(pod.UID)}, nil
}

func (c cluster) Pod(_ context.Context, _, name, _ string) (issuer.Pod, error) {
	pod := c[name]
	if pod == nil {
		return issuer.Pod{}, issuer.ErrNoPod
	}
	return issuer.Pod{ServiceAccount: pod.Spec.ServiceAccountName, IPs: []netip.Addr{netip.MustParseAddr(pod.Status.PodIP)}}, nil
}

// runControlPlane serves certificates and configuration at the node's address until the end of the test, and returns the pods
// as the injector has made them.
func runControlPlane(t *testing.T, cfg *config.Mesh) (map[string]*corev1.Pod, error) {
	cp, err := xdstest.Start(xdstest.Options{Config: cfg, Log: logr.Discard(), Report: complain})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = cp.Stop() })
	pods, err := injectedPods(cfg, cp.Roots())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(cp.Apply(objects(pods)...), cp.Published()); err != nil {
		return nil, err
	}
	identities, err := issuer.New(issuer.Options{
		CA: cp.Authority, Tokens: cluster(pods), Pods: cluster(pods), TrustDomain: cfg.TrustDomain, TLS: cp.Authority.TLS(false), CheckSourceAddress: true,
		Log: logr.Discard(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, err
	}
	var listeners [2]net.Listener
	for i, port := range []int{15010, config.IdentityPort} {
		if listeners[i], err = net.Listen("tcp", fmt.Sprintf("%s:%d", nodeAddress, port)); err != nil {
			return nil, err
		}
	}
	ads, err := cp.Serve(listeners[0])
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = ads.Stop() })
	go func() { _ = identities.Serve(t.Context(), listeners[1]) }() // ends with the test
	return pods, nil
}

// complain: the objects are right, or the test is not.
func complain(about mesh.ID, problems []mesh.Problem) {
	for _, p := range problems {
		if !strings.Contains(p.Reason, "Detection") {
			fmt.Fprintf(os.Stderr, "%v: %s\n", about, p)
		}
	}
}
