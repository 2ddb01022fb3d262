package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// named returns the Services and Gateways that the command line names.
func (o *routesOptions) named(ctx context.Context, w *world, args []string) (services, gateways []mesh.Key, err error) {
	if len(args) == 1 {
		return o.one(ctx, w, args[0])
	}
	services, gateways = w.servicesOf(o.namespace), w.gatewaysOf(o.namespace)
	switch {
	case len(services)+len(gateways) > 0:
		return services, gateways, nil
	case o.all:
		return nil, nil, errors.New("the cluster has no Services")
	}
	return nil, nil, fmt.Errorf("namespace %s has no Services", o.namespace)
}

// checkTarget says what is wrong with a name, and with a request to such an object.
func (o *routesOptions) checkTarget(name string, r *request) error {
	gateway := false
	if _, _, ok := serviceAddress(name); !ok {
		t, err := o.target(name)
		if err != nil {
			return err
		}
		gateway = t.kind == string(mesh.KindGateway)
	}
	switch {
	case gateway && o.from != "":
		return fmt.Errorf("--from: %q: want none for a Gateway, whose rules are the same for all clients", o.from)
	case gateway && r != nil && r.scheme == "":
		return fmt.Errorf(`--request: %q: want a whole URL for a Gateway, such as "GET https://shop.example.com/cart"`, o.request)
	case !gateway && r != nil && r.scheme != "":
		return fmt.Errorf(`--request: %q: want a path for a Service, such as "GET /cart"; a URL is for a Gateway`, o.request)
	}
	return nil
}

// wanted reports whether a Gateway is shown, as far as the command line tells; it is nil if none is.
func (o *routesOptions) wanted(args []string) func(mesh.Key) bool {
	if len(args) == 0 {
		return func(key mesh.Key) bool { return o.all || key.Namespace == o.namespace }
	}
	if t, err := o.target(args[0]); err == nil && t.kind == string(mesh.KindGateway) {
		return func(key mesh.Key) bool { return key == t.Key }
	}
	return nil
}

func (o *routesOptions) target(name string) (target, error) {
	fallback := o.defaultNamespace
	if len(o.files) > 0 {
		fallback = func() string { return "default" } // not the kubeconfig's: files alone
	}
	return o.parseTarget(name, "Service", fallback)
}

func (o *routesOptions) one(ctx context.Context, w *world, name string) (services, gateways []mesh.Key, err error) {
	if address, port, ok := serviceAddress(name); ok {
		services, err = o.at(w, address, port)
		return services, nil, err
	}
	t, err := o.target(name)
	switch {
	case err != nil:
		return nil, nil, err
	case t.kind == string(mesh.KindGateway) && w.byID[mesh.ID{Kind: mesh.KindGateway, Key: t.Key}] == nil:
		return nil, nil, fmt.Errorf("Gateway %s does not exist%s", t.Key, others(t.Namespace, "Gateways", w.gatewaysOf(t.Namespace))) //nolint:staticcheck // a kind
	case t.kind == string(mesh.KindGateway):
		return nil, []mesh.Key{t.Key}, nil
	case t.kind != "" && t.kind != string(mesh.KindService):
		services, err = o.servicesFor(ctx, w, t)
		return services, nil, err
	case w.source[t.Key] == nil:
		return nil, nil, fmt.Errorf("Service %s does not exist%s", t.Key, w.others(t.Namespace)) //nolint:staticcheck // a kind
	}
	return []mesh.Key{t.Key}, nil, nil
}

// serviceAddress reads "10.96.0.10" or "10.96.0.10:80", as sidecars write the destination of a call.
func serviceAddress(text string) (address netip.Addr, port uint16, ok bool) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr(), ap.Port(), true
	}
	address, err := netip.ParseAddr(text)
	return address, 0, err == nil
}

// at finds the Service with an address. For a port that the Service lacks, the error lists the ports that it has.
func (o *routesOptions) at(w *world, address netip.Addr, port uint16) ([]mesh.Key, error) {
	for _, key := range w.servicesOf("") {
		if svc := w.Service(key); svc != nil && slices.Contains(svc.ClusterIPs, address) {
			if port != 0 && o.port != 0 && o.port != port {
				return nil, fmt.Errorf("--port: %d: want the port of %s, or no --port", o.port, netip.AddrPortFrom(address, port))
			}
			o.port = cmp.Or(o.port, port)
			return []mesh.Key{key}, nil
		}
	}
	return nil, fmt.Errorf("no Service has the address %s", address)
}

// servicesOf returns the Services of a namespace, or of all for "".
func (w *world) servicesOf(namespace string) []mesh.Key {
	var keys []mesh.Key
	for key := range w.source {
		if namespace == "" || key.Namespace == namespace {
			keys = append(keys, key)
		}
	}
	sortKeys(keys)
	return keys
}

// gatewaysOf returns the Gateways of a namespace, or of all for "".
func (w *world) gatewaysOf(namespace string) []mesh.Key {
	var keys []mesh.Key
	for id := range w.byID {
		if id.Kind == mesh.KindGateway && (namespace == "" || id.Namespace == namespace) {
			keys = append(keys, id.Key)
		}
	}
	sortKeys(keys)
	return keys
}

// others names some Services of a namespace, for a message.
func (w *world) others(namespace string) string {
	return others(namespace, "Services", w.servicesOf(namespace))
}

// others names some objects of a namespace, for a message.
func others(namespace, what string, keys []mesh.Key) string {
	const some = 8
	var names []string
	for _, key := range keys {
		names = append(names, key.Name)
	}
	switch {
	case len(names) == 0:
		return fmt.Sprintf("; namespace %s has no %s", namespace, what)
	case len(names) > some:
		names = append(names[:some], fmt.Sprintf("and %d more", len(names)-some))
	}
	return fmt.Sprintf("; namespace %s has %s", namespace, strings.Join(names, ", "))
}

// ports lists those of a Gateway's listeners.
func (v gatewayView) ports() string {
	var out []string
	for _, l := range v.Listeners {
		out = append(out, fmt.Sprintf("%d (%s)", l.Port, l.Name))
	}
	return strings.Join(out, ", ")
}

func portList(svc *mesh.Service) string {
	var out []string
	for _, p := range svc.Ports {
		out = append(out, fmt.Sprint(p.Number))
	}
	return strings.Join(out, ", ")
}
