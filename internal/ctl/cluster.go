package ctl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
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

// unread are the kinds for Gateways that the user may not list or that the cluster does not have, with the reason.
type unread map[mesh.Kind]error

// readCluster lists what routes depend on, of all namespaces: a route may stand in any of them. A kind that
// the cluster does not have is none of it. The rules of Services do not depend on the kinds for Gateways, which may be unread.
func readCluster(ctx context.Context, c client.Client) (objects, unread, error) {
	var out objects
	missing := unread{}
	for _, kind := range []struct {
		list client.ObjectList
		what string
		// forGateways is the kind of objects that only the rules of Gateways depend on.
		forGateways mesh.Kind
	}{
		{&corev1.ServiceList{}, "Services", ""},
		{&gatewayv1.HTTPRouteList{}, "HTTPRoutes", ""},
		{&gatewayv1.GRPCRouteList{}, "GRPCRoutes", ""},
		{&gatewayv1.TLSRouteList{}, "TLSRoutes", ""},
		{&gatewayv1.TCPRouteList{}, "TCPRoutes", ""},
		{&gatewayxv1alpha1.XBackendTrafficPolicyList{}, "XBackendTrafficPolicies", ""},
		{&gatewayv1.UDPRouteList{}, "UDPRoutes", mesh.KindUDPRoute},
		{&gatewayv1.GatewayClassList{}, "GatewayClasses", mesh.KindGatewayClass},
		{&gatewayv1.GatewayList{}, "Gateways", mesh.KindGateway},
		{&gatewayv1.ListenerSetList{}, "ListenerSets", mesh.KindListenerSet},
		{&gatewayv1.BackendTLSPolicyList{}, "BackendTLSPolicies", mesh.KindBackendTLSPolicy},
		{&corev1.NamespaceList{}, "Namespaces", mesh.KindNamespace},
	} {
		err := c.List(ctx, kind.list)
		if kind.forGateways != "" && (apierrors.IsForbidden(err) || apimeta.IsNoMatchError(err)) {
			missing[kind.forGateways] = fmt.Errorf("list %s: %w", kind.what, err)
			continue
		}
		if err != nil && !apimeta.IsNoMatchError(err) {
			return nil, nil, fmt.Errorf("list %s: %w", kind.what, err)
		}
		if err := apimeta.EachListItem(kind.list, func(o runtime.Object) error {
			out = append(out, o.(client.Object))
			return nil
		}); err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", kind.what, err)
		}
	}
	grants, err := listGrants(ctx, c)
	for _, grant := range grants {
		out = append(out, grant)
	}
	return out, missing, err
}

// notes say which kinds the user may not list.
func (u unread) notes() []string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(u)) {
		if !apimeta.IsNoMatchError(u[kind]) {
			out = append(out, fmt.Sprintf("seeing Gateways without these objects: %v", u[kind]))
		}
	}
	return out
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
