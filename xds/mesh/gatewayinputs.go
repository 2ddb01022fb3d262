package mesh

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// GatewayInputs are the objects that a Gateway of our class depends on. Other objects are ignored.
type GatewayInputs struct {
	Gateway *gatewayv1.Gateway
	// Parameters are those that were valid last, and ParametersError says what is wrong with them now.
	Parameters      config.GatewayParameters
	ParametersError error
	// ListenerSets that name it as a parent.
	ListenerSets []*gatewayv1.ListenerSet
	// Routes that name the Gateway or one of these ListenerSets as a parent, with the Services that they send to. Grants are also
	// those in the namespaces of Secrets and ConfigMaps.
	Routes RouteInputs
	// Built are routes that earlier results had and that are still right. Routes has the others, and only what these send to.
	Built map[ID]*BuiltRoute
	// Namespaces has the labels of each namespace that routes and ListenerSets are in.
	Namespaces map[string]labels.Set
	Secrets    map[Key]*corev1.Secret
	ConfigMaps map[Key]*corev1.ConfigMap
	// NoIdentities is true in a mesh without identities, where nobody can tell a gateway's pods from others: they get no private keys.
	NoIdentities bool
	// Service is the one before the Gateway's pods (GatewayService), or nil.
	Service *corev1.Service
	// Deployed is what has become of the Service and the pods of the Gateway.
	Deployed Deployed
}

// Name returns the name of the objects that the Gateway gets.
func (in GatewayInputs) Name() string {
	return GatewayName(in.Gateway.Name, string(in.Gateway.Spec.GatewayClassName))
}

// Deployed is what has become of the Service and the pods of a Gateway.
type Deployed struct {
	Addresses []gatewayv1.GatewayStatusAddress
	// Ready is true if a pod is.
	Ready bool
}

// BuildDeployed returns what has become of a Gateway's Service, which may be nil, and of the pods behind it.
func BuildDeployed(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) Deployed {
	var out Deployed
	if svc == nil {
		return out
	}
	add := func(kind gatewayv1.AddressType, value string) {
		if value != "" && value != corev1.ClusterIPNone {
			out.Addresses = append(out.Addresses, gatewayv1.GatewayStatusAddress{Type: &kind, Value: value})
		}
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, i := range svc.Status.LoadBalancer.Ingress {
			add(gatewayv1.IPAddressType, i.IP)
			add(gatewayv1.HostnameAddressType, i.Hostname)
		}
	} else {
		for _, ip := range svc.Spec.ClusterIPs {
			add(gatewayv1.IPAddressType, ip)
		}
	}
	for _, ip := range svc.Spec.ExternalIPs {
		add(gatewayv1.IPAddressType, ip)
	}
	const most = 16 // of the schema
	out.Addresses = out.Addresses[:min(len(out.Addresses), most)]
	for _, slice := range endpointSlices {
		for _, ep := range slice.Endpoints {
			out.Ready = out.Ready || isTrue(ep.Conditions.Ready, true)
		}
	}
	return out
}

// objectRef is a reference to a Secret or a ConfigMap.
type objectRef struct {
	ID
	// field is the path from the object.
	field string
}

// GatewayRefs returns the Secrets and ConfigMaps that a Gateway names, each once.
func GatewayRefs(o *gatewayv1.Gateway) []ID {
	var out []ID
	for _, l := range o.Spec.Listeners {
		out = append(out, certificateIDs(o.Namespace, l.TLS)...)
	}
	if t := o.Spec.TLS; t != nil {
		if t.Backend != nil && t.Backend.ClientCertificateRef != nil {
			out = append(out, secretRef(o.Namespace, "", *t.Backend.ClientCertificateRef).ID)
		}
		if t.Frontend != nil {
			validations := []*gatewayv1.FrontendTLSValidation{t.Frontend.Default.Validation}
			for _, p := range t.Frontend.PerPort {
				validations = append(validations, p.TLS.Validation)
			}
			for _, v := range validations {
				if v == nil {
					continue
				}
				for _, ref := range v.CACertificateRefs {
					out = append(out, referenced(o.Namespace, "", ref).ID)
				}
			}
		}
	}
	if i := o.Spec.Infrastructure; i != nil && i.ParametersRef != nil && i.ParametersRef.Kind == gatewayv1.Kind(KindConfigMap) {
		out = append(out, ID{KindConfigMap, Key{o.Namespace, i.ParametersRef.Name}})
	}
	return uniqueIDs(out)
}

// GatewayClassRefs returns the ConfigMap that a GatewayClass names.
func GatewayClassRefs(o *gatewayv1.GatewayClass) []ID {
	if ref := o.Spec.ParametersRef; ref != nil && ref.Kind == gatewayv1.Kind(KindConfigMap) && ref.Namespace != nil {
		return []ID{{KindConfigMap, Key{string(*ref.Namespace), ref.Name}}}
	}
	return nil
}

// ListenerSetRefs is GatewayRefs for a ListenerSet.
func ListenerSetRefs(o *gatewayv1.ListenerSet) []ID {
	var out []ID
	for _, l := range o.Spec.Listeners {
		out = append(out, certificateIDs(o.Namespace, l.TLS)...)
	}
	return uniqueIDs(out)
}

// ListenerSetParent returns the Gateway that a ListenerSet names.
func ListenerSetParent(o *gatewayv1.ListenerSet) (Key, bool) {
	ref := o.Spec.ParentRef
	ours := (ref.Group == nil || *ref.Group == gatewayv1.GroupName) && (ref.Kind == nil || *ref.Kind == gatewayv1.Kind(KindGateway))
	return Key{cmp.Or(string(deref(ref.Namespace)), o.Namespace), string(ref.Name)}, ours
}

func uniqueIDs(ids []ID) []ID {
	slices.SortFunc(ids, ID.Compare)
	return slices.Compact(ids)
}

func certificateIDs(namespace string, t *gatewayv1.ListenerTLSConfig) []ID {
	var out []ID
	if t != nil {
		for _, ref := range t.CertificateRefs {
			out = append(out, secretRef(namespace, "", ref).ID)
		}
	}
	return out
}

func secretRef(namespace, field string, ref gatewayv1.SecretObjectReference) objectRef {
	kind := gatewayv1.Kind(KindSecret)
	if ref.Kind != nil {
		kind = *ref.Kind
	}
	return referenced(namespace, field, gatewayv1.ObjectReference{Group: deref(ref.Group), Kind: kind, Namespace: ref.Namespace, Name: ref.Name})
}

// referenced returns the object that a reference names. The kind of one outside of the core group includes the group.
func referenced(namespace, field string, ref gatewayv1.ObjectReference) objectRef {
	kind := Kind(ref.Kind)
	if ref.Group != "" {
		kind = Kind(string(ref.Group) + "/" + string(kind))
	}
	return objectRef{ID{kind, Key{cmp.Or(string(deref(ref.Namespace)), namespace), string(ref.Name)}}, field}
}

// selects reports whether a namespace is one of those that an object of another namespace allows.
func selects(from gatewayv1.FromNamespaces, selector *metav1.LabelSelector, own, namespace string, namespaces map[string]labels.Set) bool {
	switch from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return own == namespace
	case gatewayv1.NamespacesFromSelector:
		s, err := metav1.LabelSelectorAsSelector(selector)
		has, known := namespaces[namespace]
		return err == nil && known && s.Matches(has)
	}
	return false // None, or unknown
}
