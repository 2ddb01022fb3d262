package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

type routesOptions struct {
	clusterFlags
	connect            connector
	files              []string
	system, meshConfig string
	port               uint16
	from               string
	all                bool
	output             string
	request            string
	headers            []string
}

func newRoutesCommand(connect connector) *cobra.Command {
	o := routesOptions{connect: connect}
	cmd := &cobra.Command{
		Use:   "routes SERVICE[.NAMESPACE] | KIND/NAME[.NAMESPACE] | ADDRESS[:PORT] | -n NAMESPACE | -A",
		Short: "Show where calls to a Service go: its rules, their order, and the objects that set them",
		Long: `Show the rules of a Service, or of all Services of a namespace, in the order in which the sidecars
try them: from which route and which rule, what a request must be like, where it goes and
in which share, which filters, timeouts and retries hold and where each of them is written. Rules that no
request can meet are marked, and what is refused or cannot be resolved is listed with the reason.

Rules from routes in another namespace than the Service's hold for clients in that namespace alone, in place
of the others.

Of a workload or a pod (deploy/cart, sts/cart, ds/cart, pod/cart-7d9f) the Services that select its pods are shown,
of an address that a sidecar's answer names (10.96.0.10:8080) the Service that has it.

It is computed from the objects as the control plane computes it. Objects come from the cluster, or with -f
from files alone.`,
		Example: `  # The rules of Service cart in namespace shop
  mizzenctl routes cart.shop

  # For clients in namespace web, on port 80
  mizzenctl routes cart.shop --from web --port 80

  # Where does this call land, and why?
  mizzenctl routes cart.shop --request 'GET /items?page=2' -H 'x-user: alice'
  mizzenctl routes cart.shop --request shop.Cart/List

  # Every Service of a namespace, or of all
  mizzenctl routes -n shop
  mizzenctl routes -A

  # Without a cluster
  mizzenctl routes cart.shop -f manifests/`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.add(flags, "namespace of the Service; without a Service, show all of this namespace")
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "show the Services of all namespaces")
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "file, directory or - for stdin, in place of the cluster; may be given more than once")
	flags.Uint16Var(&o.port, "port", 0, "show only this port of the Service")
	flags.StringVar(&o.from, "from", "", "show the rules for clients in this namespace")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	flags.StringVar(&o.request, "request", "", `show the rule that a request matches: "METHOD /path?query", or "package.Service/Method" for gRPC`)
	flags.StringArrayVarP(&o.headers, "header", "H", nil, `header of the request, "name: value"; may be given more than once`)
	addMeshFlags(flags, &o.meshConfig, &o.system)
	return cmd
}

func (o *routesOptions) run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var request *mesh.Request
	switch {
	case len(args) == 0 && o.namespace == "" && !o.all:
		return errors.New("want a Service, such as cart.shop, -n NAMESPACE for all of a namespace, or -A for all")
	case o.all && (len(args) > 0 || o.namespace != ""):
		return errors.New("--all-namespaces: want no Service and no --namespace")
	case !slices.Contains(outputs, o.output):
		return fmt.Errorf("--output: %q: want %s", o.output, wantOutput)
	case len(o.headers) > 0 && o.request == "":
		return errors.New("--header: want --request, too")
	case o.request != "":
		r, err := parseRequest(o.request, o.headers)
		if err != nil {
			return err
		}
		request = &r
	}
	if len(args) == 1 {
		if _, _, ok := serviceAddress(args[0]); !ok {
			if _, err := o.target(args[0]); err != nil { // before a cluster is asked
				return err
			}
		}
	}
	w, err := o.world(ctx, stdin, stderr)
	if err != nil {
		return err
	}
	keys, err := o.services(ctx, w, args)
	if err != nil {
		return err
	}
	endpoints := o.endpoints(ctx, keys, stderr)
	var out routesView
	for _, key := range keys {
		v := w.viewOf(key, o.from, o.port)
		for i := range v.Ports {
			if endpoints != nil {
				v.Ports[i].Endpoints = countEndpoints(endpoints[key], w.Service(key), v.Ports[i].Name)
			}
		}
		if o.port != 0 && w.Service(key) != nil && len(v.Ports) == 0 {
			if len(keys) == 1 {
				return fmt.Errorf("Service %s has no port %d; want one of %s", key, o.port, portList(w.Service(key))) //nolint:staticcheck // a kind
			}
			continue // of several Services those that have it
		}
		if request != nil {
			landings, err := v.landing(*request)
			if err != nil && len(args) == 1 {
				return err
			}
			out.Requests = append(out.Requests, landings...)
			continue
		}
		out.Services = append(out.Services, v)
	}
	if len(out.Services)+len(out.Requests) == 0 {
		return fmt.Errorf("--port: %d: none of %s has this port", o.port, plural(len(keys), "Service"))
	}
	return out.write(stdout, o.output)
}

func (o *routesOptions) world(ctx context.Context, stdin io.Reader, stderr io.Writer) (*world, error) {
	if len(o.files) > 0 {
		cfg, err := loadMesh(o.meshConfig)
		if err != nil {
			return nil, err
		}
		sources, err := readSources(o.files, stdin)
		if err != nil {
			return nil, err
		}
		namespace := o.namespace
		if namespace == "" {
			namespace = "default" // not the kubeconfig's: files alone
		}
		r := readObjects(sources, namespace)
		var errs []error
		for _, f := range r.findings {
			if f.Severity == severityError {
				errs = append(errs, errors.New(f.line()))
			}
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		return newWorld(objects{}.with(r.objects), cfg), nil
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return nil, err
	}
	found, err := readCluster(ctx, c)
	if err != nil {
		return nil, err
	}
	cfg, err := clusterReader{Client: c, system: o.system, meshConfig: o.meshConfig}.meshOrDefault(ctx, stderr)
	if err != nil {
		return nil, err
	}
	return newWorld(found, cfg), nil
}

// endpoints are the EndpointSlices of Services; nil if they are unknown.
func (o *routesOptions) endpoints(ctx context.Context, keys []mesh.Key, stderr io.Writer) map[mesh.Key][]discoveryv1.EndpointSlice {
	if len(o.files) > 0 {
		return nil
	}
	namespace := keys[0].Namespace
	if keys[len(keys)-1].Namespace != namespace {
		namespace = ""
	}
	c, err := o.connect(&o.clusterFlags)
	if err == nil {
		var found map[mesh.Key][]discoveryv1.EndpointSlice
		if found, err = slicesOf(ctx, c, namespace); err == nil {
			return found
		}
	}
	_, _ = fmt.Fprintf(stderr, "note: cannot count endpoints: %v\n", err)
	return nil
}

// services returns the Services that the command line names.
func (o *routesOptions) services(ctx context.Context, w *world, args []string) ([]mesh.Key, error) {
	switch {
	case len(args) == 1:
		return o.named(ctx, w, args[0])
	case o.all:
		if keys := w.servicesOf(""); len(keys) > 0 {
			return keys, nil
		}
		return nil, errors.New("the cluster has no Services")
	}
	if keys := w.servicesOf(o.namespace); len(keys) > 0 {
		return keys, nil
	}
	return nil, fmt.Errorf("namespace %s has no Services", o.namespace)
}

func (o *routesOptions) target(name string) (target, error) {
	fallback := o.defaultNamespace
	if len(o.files) > 0 {
		fallback = func() string { return "default" } // not the kubeconfig's: files alone
	}
	return o.parseTarget(name, "Service", fallback)
}

func (o *routesOptions) named(ctx context.Context, w *world, name string) ([]mesh.Key, error) {
	if address, port, ok := serviceAddress(name); ok {
		return o.at(w, address, port)
	}
	t, err := o.target(name)
	switch {
	case err != nil:
		return nil, err
	case t.kind != "" && t.kind != "Service":
		return o.servicesFor(ctx, w, t)
	case w.source[t.Key] == nil:
		return nil, fmt.Errorf("Service %s does not exist%s", t.Key, w.others(t.Namespace)) //nolint:staticcheck // a kind
	}
	return []mesh.Key{t.Key}, nil
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

// others names some Services of a namespace, for a message.
func (w *world) others(namespace string) string {
	const some = 8
	var names []string
	for _, key := range w.servicesOf(namespace) {
		names = append(names, key.Name)
	}
	switch {
	case len(names) == 0:
		return fmt.Sprintf("; namespace %s has no Services", namespace)
	case len(names) > some:
		names = append(names[:some], fmt.Sprintf("and %d more", len(names)-some))
	}
	return fmt.Sprintf("; namespace %s has %s", namespace, strings.Join(names, ", "))
}

func portList(svc *mesh.Service) string {
	var out []string
	for _, p := range svc.Ports {
		out = append(out, fmt.Sprint(p.Number))
	}
	return strings.Join(out, ", ")
}

// loadMesh returns the mesh configuration of a file, or the default.
func loadMesh(path string) (*config.Mesh, error) {
	if path == "" {
		return config.Default(), nil
	}
	return config.Load(path)
}
