// Package loadbalancer gives Services of type LoadBalancer an address each. That is all there is to do: the host has a
// route to the node for the whole range, and kube-proxy on the node takes what comes for an address in a Service's
// status. The rest is Kubernetes' own service controller.
package loadbalancer

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/component-base/featuregate"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/utils/ptr"
)

// NewCommand returns the command that runs the controller. One per cluster runs: there is no leader election.
func NewCommand() *cobra.Command {
	var kubeconfig, addresses, healthz string
	cmd := &cobra.Command{
		Use:          "load-balancer",
		SilenceUsage: true,
		Args:         cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			prefix, err := netip.ParsePrefix(addresses)
			if err != nil {
				return fmt.Errorf("--addresses: %w", err)
			}
			return run(context.Background(), kubeconfig, prefix, healthz)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	cmd.Flags().StringVar(&addresses, "addresses", "", "IPv4 prefix of the addresses to give out")
	cmd.Flags().StringVar(&healthz, "healthz-bind-address", "127.0.0.1:10260", "where /healthz answers once the controller runs")
	return cmd
}

func run(ctx context.Context, kubeconfig string, addresses netip.Prefix, healthz string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	pool, err := NewPool(addresses)
	if err != nil {
		return err
	}
	if err := start(ctx, client, pool); err != nil {
		return err
	}
	return serveHealth(healthz)
}

// start starts the controller, which ends with ctx.
func start(ctx context.Context, client kubernetes.Interface, pool *Pool) error {
	services, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, s := range services.Items {
		keep(pool, &s)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	controller, err := service.New(provider{pool: pool}, client, factory.Core().V1().Services(), factory.Core().V1().Nodes(),
		"mizzen", featuregate.NewFeatureGate())
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	go controller.Run(ctx, 1, controllersmetrics.NewControllerManagerMetrics("load-balancer"))
	return nil
}

// keep gives a Service the address that it was given by an earlier run.
func keep(pool *Pool, s *corev1.Service) {
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil {
			// An error means that the address is of another range; the Service gets a new one.
			_, _ = pool.Assign(owner(s), a)
		}
	}
}

// serveHealth says that all is well, for as long as the process runs.
func serveHealth(address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	server := http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Second}
	return server.ListenAndServe()
}

// owner is what the pool knows a Service by.
func owner(s *corev1.Service) string { return string(s.UID) }

// provider is a cloud that has load balancers only, which is all that the service controller asks it for.
type provider struct {
	cloudprovider.Interface
	pool *Pool
}

func (p provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return balancer{p.pool}, true }
func (provider) ProviderName() string                               { return "mizzen" }
func (provider) HasClusterID() bool                                 { return true }

type balancer struct{ pool *Pool }

func (b balancer) EnsureLoadBalancer(_ context.Context, _ string, s *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	var requested netip.Addr
	if ip := s.Spec.LoadBalancerIP; ip != "" {
		var err error
		if requested, err = netip.ParseAddr(ip); err != nil {
			return nil, fmt.Errorf("spec.loadBalancerIP: %w", err)
		}
	}
	a, err := b.pool.Assign(owner(s), requested)
	if err != nil {
		return nil, err
	}
	return status(a), nil
}

func (b balancer) GetLoadBalancer(_ context.Context, _ string, s *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	a, ok := b.pool.Of(owner(s))
	if !ok {
		return nil, false, nil
	}
	return status(a), true, nil
}

func (b balancer) EnsureLoadBalancerDeleted(_ context.Context, _ string, s *corev1.Service) error {
	b.pool.Release(owner(s))
	return nil
}

func (balancer) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return nil
}

func (balancer) GetLoadBalancerName(_ context.Context, _ string, s *corev1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(s)
}

func status(a netip.Addr) *corev1.LoadBalancerStatus {
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}}
}
