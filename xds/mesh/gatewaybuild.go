package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// BuildGateway returns what the pods of a Gateway serve, and the statuses of the Gateway, of its ListenerSets, and of the routes that
// name one of them as a parent: the Gateway, then the others sorted by object. The routes are for the GatewayInputs of the next time.
func BuildGateway(in GatewayInputs) (Gateway, []Status, map[ID]*BuiltRoute) {
	b := newGatewayBuilder(in)
	b.listeners = b.readListeners()
	var attempts []gatewayAttempt
	for _, r := range b.readRoutes() {
		for _, ref := range r.parents {
			if parent, ok := GatewayParent(r.Key, ref); ok && b.isParent(parent) {
				attempts = append(attempts, b.attach(r, ref, parent))
			}
		}
	}
	b.separate(attempts)
	b.readClientCertificate()
	b.out.Sockets, b.out.Ports = b.sockets(), GatewayPorts(specs(b.listeners))
	for _, name := range slices.Sorted(maps.Keys(b.secrets)) {
		b.out.Secrets = append(b.out.Secrets, b.secrets[name])
	}
	statuses := []Status{b.gatewayStatus()}
	for _, set := range b.sets {
		statuses = append(statuses, b.setStatus(set))
	}
	for _, a := range attempts {
		statuses = append(statuses, b.routeStatus(a))
	}
	return b.out, statuses, b.routes
}

// BuiltRoute is a route as it was read, with its rules. It stays right until the route changes, or a Service that it sends to, or a
// grant in the namespace of such a Service.
type BuiltRoute struct {
	*route
	rules []Rule
	// resolved is the condition ResolvedRefs.
	resolved Condition
}

// readRoutes returns all routes in the order of their IDs.
func (b *gatewayBuilder) readRoutes() []*BuiltRoute {
	for _, r := range readRoutes(b.in.Routes, true) {
		b.routes[r.ID] = &BuiltRoute{route: r, rules: b.rulesOf(r), resolved: b.resolvedRefs(r)}
	}
	return slices.SortedFunc(maps.Values(b.routes), func(x, y *BuiltRoute) int { return x.Compare(y.ID) })
}

// gatewayBuilder builds one Gateway.
type gatewayBuilder struct {
	resolver
	in  GatewayInputs
	id  ID
	out Gateway
	// sets are the ListenerSets in the order of their precedence.
	sets      []*listenerSet
	listeners []*listener
	secrets   map[string]Secret
	routes    map[ID]*BuiltRoute
	// client is what is wrong with the client certificate.
	client *Condition
}

// listenerSet is a ListenerSet that names the Gateway.
type listenerSet struct {
	*gatewayv1.ListenerSet
	id ID
	// refusal is why its listeners do not count.
	refusal *Condition
}

func newGatewayBuilder(in GatewayInputs) *gatewayBuilder {
	key := Key{in.Gateway.Namespace, in.Gateway.Name}
	b := &gatewayBuilder{
		resolver: resolver{services: in.Routes.Services, grants: in.Routes.Grants}, in: in, id: ID{KindGateway, key},
		out: Gateway{Key: key, ServiceAccount: in.Name(), Clients: clientsOf(in.Parameters)}, secrets: map[string]Secret{}, routes: map[ID]*BuiltRoute{},
	}
	maps.Copy(b.routes, in.Built)
	for _, o := range in.ListenerSets {
		b.sets = append(b.sets, &listenerSet{ListenerSet: o, id: ID{KindListenerSet, Key{o.Namespace, o.Name}}, refusal: b.refuseSet(o)})
	}
	slices.SortFunc(b.sets, func(x, y *listenerSet) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), x.id.Key.Compare(y.id.Key))
	})
	return b
}

// ClientCertificate returns a Gateway with nothing but the certificate that it shows to backends.
func ClientCertificate(in GatewayInputs) Gateway {
	b := newGatewayBuilder(in)
	b.readClientCertificate()
	return b.out
}

// refuseSet returns why a ListenerSet may not add listeners: "By default, no ListenerSets are allowed".
func (b *gatewayBuilder) refuseSet(o *gatewayv1.ListenerSet) *Condition {
	from, namespaces := gatewayv1.NamespacesFromNone, (*gatewayv1.ListenerNamespaces)(nil)
	if b.in.Gateway.Spec.AllowedListeners != nil {
		namespaces = b.in.Gateway.Spec.AllowedListeners.Namespaces
	}
	if namespaces == nil {
		namespaces = &gatewayv1.ListenerNamespaces{}
	}
	if namespaces.From != nil {
		from = *namespaces.From
	}
	if selects(from, namespaces.Selector, b.id.Namespace, o.Namespace, b.in.Namespaces) {
		return nil
	}
	return new(condition(gatewayv1.ListenerSetConditionAccepted, false, gatewayv1.ListenerSetReasonNotAllowed,
		fmt.Sprintf("spec.allowedListeners of %s allows no ListenerSet of namespace %s", b.id, o.Namespace)))
}

// specs returns listeners as their authors wrote them.
func specs(listeners []*listener) []gatewayv1.Listener {
	out := make([]gatewayv1.Listener, len(listeners))
	for i, l := range listeners {
		out[i] = l.Listener
	}
	return out
}

func (b *gatewayBuilder) isParent(id ID) bool { return id == b.id || b.set(id) != nil }

// set returns the ListenerSet of this ID, or nil.
func (b *gatewayBuilder) set(id ID) *listenerSet {
	for _, s := range b.sets {
		if s.id == id {
			return s
		}
	}
	return nil
}

// readClientCertificate reads the certificate that the Gateway shows to backends.
func (b *gatewayBuilder) readClientCertificate() {
	t := b.in.Gateway.Spec.TLS
	if t == nil || t.Backend == nil || t.Backend.ClientCertificateRef == nil {
		return
	}
	const field = "spec.tls.backend.clientCertificateRef"
	fail := func(reason gatewayv1.GatewayConditionReason, format string, args ...any) {
		b.client = new(condition(gatewayv1.GatewayConditionResolvedRefs, false, reason, field+": "+fmt.Sprintf(format, args...)))
	}
	ref := secretRef(b.id.Namespace, field, *t.Backend.ClientCertificateRef)
	switch {
	case ref.Kind != KindSecret:
		fail(gatewayv1.GatewayReasonInvalidClientCertificateRef, "%s: want a Secret of the core group", ref.Kind)
		return
	case !granted(b.grants, b.id, ref.ID):
		fail(gatewayv1.GatewayReasonRefNotPermitted, "%s: no ReferenceGrant in namespace %s allows Gateways of namespace %s to refer to it", ref.ID, ref.Namespace, b.id.Namespace)
		return
	case b.in.NoIdentities:
		fail(gatewayv1.GatewayReasonInvalidClientCertificateRef, "want a mesh with identities: private keys are served to pods with an identity alone")
		return
	}
	name, _, err := b.addCertificate(ref.Key)
	if err != nil {
		fail(gatewayv1.GatewayReasonInvalidClientCertificateRef, "%s", err)
		return
	}
	b.out.ClientCertificate = name
}

// sockets returns the ports that have a listener which is served.
func (b *gatewayBuilder) sockets() []Socket {
	type place struct {
		port uint16
		udp  bool
	}
	byPlace := map[place]*Socket{}
	for _, l := range b.listeners {
		if !l.served() {
			continue
		}
		at := place{uint16(l.Port), l.udp()}
		if byPlace[at] == nil {
			byPlace[at] = &Socket{Port: at.port, Bind: l.bind, UDP: at.udp}
		}
		out := Listener{Name: l.name(), Protocol: l.Protocol, Hostname: l.host, TLS: l.tls}
		if l.Protocol == gatewayv1.HTTPProtocolType || l.Protocol == gatewayv1.HTTPSProtocolType {
			out.Hosts = b.hosts(l)
		} else {
			out.Connections = b.connections(l)
		}
		byPlace[at].Listeners = append(byPlace[at].Listeners, out)
	}
	var out []Socket
	for _, s := range byPlace {
		slices.SortFunc(s.Listeners, func(x, y Listener) int { return cmp.Compare(x.Name, y.Name) })
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y Socket) int { return cmp.Or(cmp.Compare(x.Port, y.Port), compareBool(x.UDP, y.UDP)) })
	return out
}
