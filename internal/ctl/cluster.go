package ctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
)

// clusterTimeout bounds each request to the API server.
const clusterTimeout = 10 * time.Second

// clusterFlags are kubectl's flags for the cluster and the default namespace.
type clusterFlags struct{ kubeconfig, context, namespace string }

// connector returns a client of the cluster that the flags name.
type connector func(*clusterFlags) (client.Client, error)

func (f *clusterFlags) add(flags *pflag.FlagSet, namespaceHelp string) {
	f.addCluster(flags)
	flags.StringVarP(&f.namespace, "namespace", "n", "", namespaceHelp)
}

// addCluster adds the flags of the cluster, without the flag of the namespace.
func (f *clusterFlags) addCluster(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, else ~/.kube/config)")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig")
}

func (f *clusterFlags) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context})
}

// defaultNamespace returns the flag's namespace, else that of the kubeconfig's context, else "default".
func (f *clusterFlags) defaultNamespace() string {
	if f.namespace != "" {
		return f.namespace
	}
	if namespace, _, err := f.config().Namespace(); err == nil && namespace != "" {
		return namespace
	}
	return "default"
}

// connect is the connector that reads the kubeconfig.
func (f *clusterFlags) connect() (client.Client, error) {
	cfg, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	cfg.Timeout = clusterTimeout
	return client.New(cfg, client.Options{Scheme: kubescheme.New()})
}

func (f *clusterFlags) restConfig() (*rest.Config, error) {
	cfg, err := f.config().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no cluster: found no kubeconfig; want --kubeconfig, $KUBECONFIG or ~/.kube/config")
	}
	if err != nil {
		return nil, fmt.Errorf("no cluster: %w", err)
	}
	cfg.QPS = -1 // these few lists need no client-side limit; the API server has its own
	return cfg, nil
}

// readCluster lists what routes depend on, of all namespaces: a route may stand in any of them. A kind that
// the cluster does not have is none of it.
func readCluster(ctx context.Context, c client.Client) (objects, error) {
	var services corev1.ServiceList
	if err := c.List(ctx, &services); err != nil {
		return objects{}, fmt.Errorf("list Services: %w", err)
	}
	var http gatewayv1.HTTPRouteList
	if err := listOptional(ctx, c, &http, "HTTPRoutes"); err != nil {
		return objects{}, err
	}
	var grpc gatewayv1.GRPCRouteList
	if err := listOptional(ctx, c, &grpc, "GRPCRoutes"); err != nil {
		return objects{}, err
	}
	var tls gatewayv1.TLSRouteList
	if err := listOptional(ctx, c, &tls, "TLSRoutes"); err != nil {
		return objects{}, err
	}
	var tcp gatewayv1.TCPRouteList
	if err := listOptional(ctx, c, &tcp, "TCPRoutes"); err != nil {
		return objects{}, err
	}
	grants, err := listGrants(ctx, c)
	if err != nil {
		return objects{}, err
	}
	var policies gatewayxv1alpha1.XBackendTrafficPolicyList
	if err := listOptional(ctx, c, &policies, "XBackendTrafficPolicies"); err != nil {
		return objects{}, err
	}
	return objects{
		services: pointers(services.Items), http: pointers(http.Items), grpc: pointers(grpc.Items),
		tls: pointers(tls.Items), tcp: pointers(tcp.Items), grants: grants, policies: pointers(policies.Items),
	}, nil
}

func listOptional(ctx context.Context, c client.Client, list client.ObjectList, what string, opts ...client.ListOption) error {
	if err := c.List(ctx, list, opts...); err != nil && !apimeta.IsNoMatchError(err) {
		return fmt.Errorf("list %s: %w", what, err)
	}
	return nil
}

// listGrants lists ReferenceGrants. CRDs before v1.5 of the Gateway API serve them as v1beta1 only, with the same
// fields.
func listGrants(ctx context.Context, c client.Client) ([]*gatewayv1.ReferenceGrant, error) {
	var grants gatewayv1.ReferenceGrantList
	err := c.List(ctx, &grants)
	if err == nil {
		return pointers(grants.Items), nil
	}
	if !apimeta.IsNoMatchError(err) {
		return nil, fmt.Errorf("list ReferenceGrants: %w", err)
	}
	var old gatewayv1beta1.ReferenceGrantList
	if err := listOptional(ctx, c, &old, "ReferenceGrants"); err != nil {
		return nil, err
	}
	var out []*gatewayv1.ReferenceGrant
	for _, grant := range old.Items {
		out = append(out, new(gatewayv1.ReferenceGrant(grant)))
	}
	return out, nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
