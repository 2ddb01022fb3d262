package transparency

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
	"github.com/mizzen-mesh/mizzen/xds"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// newAuthority makes the mesh's CA.
func newAuthority(ctx context.Context, cfg *config.Mesh) (*authority.Manager, error) {
	id, err := spiffe.Of(cfg.TrustDomain, "mizzen-system", "mizzen-controller")
	if err != nil {
		return nil, err
	}
	serving := authority.ServingLeaf(id, "mizzen-controller.mizzen-system.svc")
	serving.IPs, serving.Lifetime = []net.IP{net.ParseIP(nodeAddress)}, time.Hour
	kubernetes := fake.NewClientBuilder().Build()
	m, err := authority.New(authority.Options{
		Namespace: "mizzen-system", SecretName: "mizzen-ca", TrustDomain: cfg.TrustDomain, Serving: serving,
		Policy: rotation.Policy{CA: ca.Options{CommonName: "test"}, CALifetime: 24 * time.Hour, LeafLifetime: time.Hour},
		Client: kubernetes, Reader: kubernetes,
		Owner:    func(context.Context) (metav1.OwnerReference, error) { return metav1.OwnerReference{UID: "1"}, nil },
		IsLeader: func() bool { return true }, Agents: func(context.Context) authority.Agents { return authority.Agents{} },
		Recorder: events.NewFakeRecorder(100), Registerer: prometheus.NewRegistry(), Log: logr.Discard(), Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	if _, err := m.Reconcile(ctx, reconcile.Request{}); err != nil {
		return nil, err
	}
	return m, m.Ready()
}

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

type noStatuses struct{}

func (noStatuses) Set(map[mesh.Key][]status.Status) {}
func (noStatuses) SetWhole([]status.Status)         {}
func (noStatuses) Forget(kube.ID)                   {}
func (noStatuses) Written(kube.ID)                  {}

// runControlPlane serves certificates and configuration at the node's address until ctx ends.
func runControlPlane(ctx context.Context, cfg *config.Mesh, ca *authority.Manager, pods map[string]*corev1.Pod) error {
	source, err := newSource(ctx, objects(pods))
	if err != nil {
		return err
	}
	store := server.NewStore()
	controller := xds.NewController(xds.Options{
		Source: source, Store: store, Config: cfg, Log: logr.Discard(), Statuses: noStatuses{}, Report: complain,
	})
	identities, err := issuer.New(issuer.Options{
		CA: ca, Tokens: cluster(pods), Pods: cluster(pods), TrustDomain: cfg.TrustDomain, TLS: ca.TLS(false), CheckSourceAddress: true,
		Log: logr.Discard(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	ads := server.New(server.Options{
		Store: store, Log: logr.Discard(), Classes: true, TLS: ca.TLS(true), Identify: ca.Identify,
		Ahead: server.Ahead{WholeMesh: int(*cfg.OnDemand.WholeMesh), Namespace: int(*cfg.OnDemand.Namespace)},
	})
	go func() { _ = source.Run(ctx) }()
	go func() { _ = controller.Run(ctx) }()
	select {
	case <-controller.Ready():
	case <-time.After(patience):
		return errors.New("the controller has not read the cluster")
	}
	for port, serve := range map[int]func(context.Context, net.Listener) error{15010: ads.Serve, config.IdentityPort: identities.Serve} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", nodeAddress, port))
		if err != nil {
			return err
		}
		go func() { _ = serve(ctx, l) }()
	}
	return nil
}

// complain: the objects are right, or the test is not.
func complain(about mesh.Object, problems []mesh.Problem) {
	for _, p := range problems {
		if !strings.Contains(p.Reason, "Detection") {
			fmt.Fprintf(os.Stderr, "%v: %s\n", about, p)
		}
	}
}
