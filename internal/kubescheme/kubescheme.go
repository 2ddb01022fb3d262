// Package kubescheme has the kinds of objects that Mizzen reads and writes. It may import api/v1alpha1, the Gateway API
// and client-go's scheme, and nothing else.
package kubescheme

import (
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
)

// New returns a scheme with Kubernetes' own kinds, those of the Gateway API and Mizzen's.
func New() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, gatewayv1.Install, gatewayv1beta1.Install, gatewayxv1alpha1.Install, v1alpha1.Install,
	} {
		utilruntime.Must(add(s)) // fails only where two kinds have one name
	}
	return s
}
