package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

type routesOptions struct {
	clusterFlags
	connect    connector
	files      []string
	meshConfig string
	port       uint16
	from       string
	output     string
	request    string
	headers    []string
}

func newRoutesCommand(connect connector) *cobra.Command {
	o := routesOptions{connect: connect}
	cmd := &cobra.Command{
		Use:   "routes SERVICE[.NAMESPACE] | -n NAMESPACE",
		Short: "Show what becomes of calls to a Service: its rules, their order, and who said what",
		Long: `Show the rules of a Service, or of all Services of a namespace, in the order in which the sidecars
try them: from which HTTPRoute or GRPCRoute and which rule, what a request must be like, where it goes and
in which share, which filters, timeouts and retries hold and where each of them is written. Rules that no
request can meet are marked, and what is refused or cannot be resolved is listed with the reason.

Rules from routes in another namespace than the Service's hold for clients in that namespace alone, in place
of the others.

It is computed from the objects as the control plane computes it. Objects come from the cluster, or with -f
from files alone.`,
		Example: `  # The rules of Service cart in namespace shop
  mizzenctl routes cart.shop

  # For clients in namespace web, on port 80
  mizzenctl routes cart.shop --from web --port 80

  # Where does this call land, and why?
  mizzenctl routes cart.shop --request 'GET /items?page=2' -H 'x-user: alice'
  mizzenctl routes cart.shop --request shop.Cart/List

  # Every Service of a namespace
  mizzenctl routes -n shop

  # Without a cluster
  mizzenctl routes cart.shop -f manifests/`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	o.add(flags, "namespace of the Service; without a Service, all of this namespace")
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "file, directory or - for stdin instead of the cluster; may be given more than once")
	flags.Uint16Var(&o.port, "port", 0, "this port of the Service alone")
	flags.StringVar(&o.from, "from", "", "what holds for clients in this namespace")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	flags.StringVar(&o.request, "request", "", `say which rule a request meets: "METHOD /path?query", or "package.Service/Method" for gRPC`)
	flags.StringArrayVarP(&o.headers, "header", "H", nil, `header of the request, "name: value"; may be given more than once`)
	flags.StringVar(&o.meshConfig, "mesh-config", "", "file with the mesh configuration (default: Mizzen's defaults)")
	return cmd
}

func (o *routesOptions) run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var request *mesh.Request
	switch {
	case len(args) == 0 && o.namespace == "":
		return errors.New("want a Service, such as cart.shop, or -n NAMESPACE for all of a namespace")
	case !slices.Contains(outputs, o.output):
		return fmt.Errorf("--output: %q: want %s", o.output, wantOutput)
	case len(o.headers) > 0 && o.request == "":
		return errors.New("--header: want a --request that has it")
	case o.request != "":
		r, err := parseRequest(o.request, o.headers)
		if err != nil {
			return err
		}
		request = &r
	}
	w, err := o.world(ctx, stdin)
	if err != nil {
		return err
	}
	keys, err := o.services(w, args)
	if err != nil {
		return err
	}
	var out routesView
	for _, key := range keys {
		v := w.viewOf(key, o.from, o.port)
		if len(args) == 1 && o.port != 0 && w.built[key] != nil && len(v.Ports) == 0 {
			return fmt.Errorf("--port: %d: Service %s has no such port; want one of %s", o.port, key, portList(w.built[key]))
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
	return out.write(stdout, o.output)
}

func (o *routesOptions) world(ctx context.Context, stdin io.Reader) (*world, error) {
	cfg, err := loadMesh(o.meshConfig)
	if err != nil {
		return nil, err
	}
	if len(o.files) > 0 {
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
	return newWorld(found, cfg), nil
}

// services are what the command line names.
func (o *routesOptions) services(w *world, args []string) ([]mesh.Key, error) {
	namespace := o.namespace
	if len(args) == 1 {
		name, rest, suffixed := strings.Cut(args[0], ".")
		if own, _, _ := strings.Cut(rest, "."); suffixed { // also cart.shop.svc.cluster.local
			if namespace != "" && namespace != own {
				return nil, fmt.Errorf("%s: namespace %q; want that of --namespace, %q", args[0], own, namespace)
			}
			namespace = own
		} else if namespace == "" && len(o.files) > 0 {
			namespace = "default"
		} else if namespace == "" {
			namespace = o.defaultNamespace()
		}
		key := mesh.Key{Namespace: namespace, Name: name}
		if w.source[key] != nil {
			return []mesh.Key{key}, nil
		}
		return nil, fmt.Errorf("Service %s does not exist%s", key, w.others(namespace))
	}
	keys := w.servicesOf(namespace)
	if len(keys) == 0 {
		return nil, fmt.Errorf("namespace %s has no Services", namespace)
	}
	return keys, nil
}

func (w *world) servicesOf(namespace string) []mesh.Key {
	var keys []mesh.Key
	for key := range w.source {
		if key.Namespace == namespace {
			keys = append(keys, key)
		}
	}
	sortKeys(keys)
	return keys
}

// others lists some Services of a namespace, for a message.
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

// loadMesh gives the mesh configuration of a file, or the default.
func loadMesh(path string) (*config.Mesh, error) {
	if path == "" {
		return config.Default(), nil
	}
	return config.Load(path)
}
