package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

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
		Short: "Show where calls to a Service or through a Gateway go: the rules, their order, and the objects that set them",
		Long: `Show the rules of a Service, or of all Services of a namespace, in the order in which the sidecars
try them: from which route and which rule, what a request must be like, where it goes and
in which share, which filters, timeouts and retries hold and where each of them is written. Rules that no
request can meet are marked, and what is refused or cannot be resolved is listed with the reason.

Rules from routes in another namespace than the Service's hold for clients in that namespace alone, in place
of the others.

Of a workload or a pod (deploy/cart, sts/cart, ds/cart, pod/cart-7d9f) the Services that select its pods are shown,
of an address that a sidecar's answer names (10.96.0.10:8080) the Service that has it.

Of a Gateway (gateway/public, gtw/public) the listeners are shown, with those of its ListenerSets: port, protocol, host name
and certificates, and the virtual hosts and rules of each. A request with a whole URL says which listener, virtual host and rule
answer, or why none does. The Secrets that the Gateway names are read; those that cannot be are taken for valid.

It is computed from the objects as the control plane computes it. Objects come from the cluster, or with -f
from files alone.`,
		Example: `  # The rules of Service cart in namespace shop
  mizzenctl routes cart.shop

  # For clients in namespace web, on port 80
  mizzenctl routes cart.shop --from web --port 80

  # Where does this call land, and why?
  mizzenctl routes cart.shop --request 'GET /items?page=2' -H 'x-user: alice'
  mizzenctl routes cart.shop --request shop.Cart/List

  # The listeners of Gateway public in namespace edge, and their rules
  mizzenctl routes gateway/public.edge

  # What answers this URL, and why?
  mizzenctl routes gateway/public.edge --request 'GET https://shop.example.com/cart'
  mizzenctl routes gateway/public.edge --request 'POST https://api.example.com/shop.Cart/List'

  # Every Service and Gateway of a namespace, or of all
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
	o.add(flags, "namespace of the Service or Gateway; without one, show all of this namespace")
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "show the Services and Gateways of all namespaces")
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "file, directory or - for stdin, in place of the cluster; may be given more than once")
	flags.Uint16Var(&o.port, "port", 0, "show only this port of the Service or Gateway")
	flags.StringVar(&o.from, "from", "", "show the rules for clients in this namespace")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	flags.StringVar(&o.request, "request", "", `show the rule that a request matches: "METHOD /path?query", or "package.Service/Method" for gRPC; for a Gateway "METHOD https://host/path"`)
	flags.StringArrayVarP(&o.headers, "header", "H", nil, `header of the request, "name: value"; may be given more than once`)
	addMeshFlags(flags, &o.meshConfig, &o.system)
	return cmd
}

func (o *routesOptions) run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var r *request
	switch {
	case len(args) == 0 && o.namespace == "" && !o.all:
		return errors.New("want a Service, such as cart.shop, a Gateway, such as gateway/public.edge, -n NAMESPACE for all of a namespace, or -A for all")
	case o.all && (len(args) > 0 || o.namespace != ""):
		return errors.New("--all-namespaces: want no Service and no --namespace")
	case checkOutput(o.output) != nil:
		return checkOutput(o.output)
	case len(o.headers) > 0 && o.request == "":
		return errors.New("--header: want --request, too")
	case o.request != "":
		parsed, err := parseRequest(o.request, o.headers)
		if err != nil {
			return err
		}
		r = &parsed
	}
	if len(args) == 1 {
		if err := o.checkTarget(args[0], r); err != nil { // before a cluster is asked
			return err
		}
	}
	w, err := o.world(ctx, args, stdin, stderr)
	if err != nil {
		return err
	}
	services, gateways, err := o.named(ctx, w, args)
	if err != nil {
		return err
	}
	var out routesView
	if r == nil || r.scheme == "" {
		if err := o.addServices(ctx, &out, w, services, r, len(args) == 1, stderr); err != nil {
			return err
		}
	}
	if r == nil || r.scheme != "" {
		if err := o.addGateways(&out, w, gateways, r); err != nil {
			return err
		}
	}
	if out.empty() {
		return o.nothing(services, gateways, r)
	}
	return out.write(stdout, o.output)
}

// addServices adds the views of Services, or where a request to them goes. only says that the command line names the one Service.
func (o *routesOptions) addServices(ctx context.Context, out *routesView, w *world, keys []mesh.Key, r *request, only bool, stderr io.Writer) error {
	if len(keys) == 0 {
		return nil
	}
	endpoints := o.endpoints(ctx, keys, stderr)
	for _, key := range keys {
		v := w.viewOf(key, o.from, o.port)
		for i := range v.Ports {
			if endpoints != nil {
				v.Ports[i].Endpoints = countEndpoints(endpoints[key], w.Service(key), v.Ports[i].Name)
			}
		}
		if o.port != 0 && w.captured(key) != nil && len(v.Ports) == 0 {
			if len(keys) == 1 {
				return fmt.Errorf("Service %s has no port %d; want one of %s", key, o.port, portList(w.Service(key))) //nolint:staticcheck // a kind
			}
			continue // of several Services those that have it
		}
		if r == nil {
			out.Services = append(out.Services, v)
			continue
		}
		landings, err := v.landing(r.Request)
		if err != nil && only {
			return err
		}
		out.Requests = append(out.Requests, landings...)
	}
	return nil
}

// addGateways adds the views of Gateways, or where a request to them goes.
func (o *routesOptions) addGateways(out *routesView, w *world, keys []mesh.Key, r *request) error {
	for _, key := range keys {
		v := w.gatewayViewOf(key, o.port)
		switch {
		case o.port != 0 && v.Note == "" && len(v.Listeners) == 0 && len(keys) == 1:
			return fmt.Errorf("Gateway %s has no listener at port %d; want one of %s", key, o.port, w.gatewayViewOf(key, 0).ports()) //nolint:staticcheck // a kind
		case o.port != 0 && len(v.Listeners) == 0: // of several Gateways those that have it
		case r == nil:
			out.Gateways = append(out.Gateways, v)
		case v.Note != "":
			return fmt.Errorf("--request: Gateway %s: %s", key, v.Note)
		default:
			out.Requests = append(out.Requests, w.landing(v, *r))
		}
	}
	return nil
}

// nothing says why there is nothing to show.
func (o *routesOptions) nothing(services, gateways []mesh.Key, r *request) error {
	switch {
	case r != nil && r.scheme != "" && len(gateways) == 0:
		return fmt.Errorf("--request: %q: there is no Gateway to ask; without scheme and host, Services are asked", o.request)
	case r != nil && len(services) == 0:
		return fmt.Errorf("--request: %q: there is no Service to ask; with scheme and host, Gateways are asked", o.request)
	case r != nil:
		return fmt.Errorf("--port: %d: none of %s has this port", o.port, plural(len(services), "Service"))
	}
	return fmt.Errorf("--port: %d: none of %s has this port", o.port, objectsText(services, gateways))
}

func objectsText(services, gateways []mesh.Key) string {
	if len(gateways) == 0 {
		return plural(len(services), "Service")
	}
	return plural(len(services), "Service") + " and " + plural(len(gateways), "Gateway")
}
