package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

type checkOptions struct {
	clusterFlags
	connect            connector
	files              []string
	system, meshConfig string
	offline, strict    bool
	output             string
}

func newCheckCommand(connect connector) *cobra.Command {
	o := checkOptions{connect: connect}
	cmd := &cobra.Command{
		Use:   "check -f FILE|DIR|- [flags]",
		Short: "Find mistakes in Services, Gateways, routes, policies, namespaces and workloads before you apply them",
		Long: `Find mistakes in the Services, HTTPRoutes, GRPCRoutes, TLSRoutes, TCPRoutes, UDPRoutes, Gateways, GatewayClasses, ListenerSets,
BackendTLSPolicies, ReferenceGrants, XBackendTrafficPolicies and AuthorizationPolicies of the given files: fields and annotations
that nobody knows, values that would be refused, references to Services, ports, listeners, Secrets and ConfigMaps
that are not there or that need a ReferenceGrant, host names that no listener has, weights that sum
to 0, rules that no request can ever meet, routes of two kinds on one Service port, and policies that
select no pod, name service accounts or ports that are not there, or let nobody in. Of Namespaces and workloads
the labels and annotations of mizzen.dev are looked at. Other kinds are not. Of the cluster, the configuration of
Cilium and of Calico is looked at where it can be read, because they can hide Services from sidecars.

The files are seen as if applied to the cluster of the kubeconfig, so that they may name what is there, and
what they would break there is told too. Nothing is written. With --offline, or where no cluster is reached,
the files stand alone; Secrets that Gateways name are then taken for valid unless the files have them. So is what
may not be read in the cluster, and a note says so.

Each finding is a line: place, severity, object, field, value, what is wrong and what is allowed. The exit
code is 1 if there is an error; warnings alone leave it at 0 without --strict.

The schema of the CRDs holds more than is checked here: kubectl apply --dry-run=server asks it.`,
		Example: `  # Before kubectl apply -f routes/, with Gateways in it or in the cluster
  mizzenctl check -f routes/

  # In CI, without a cluster, with Services and routes in the repository
  mizzenctl check --offline --strict -f manifests/ -f routes/

  # What a chart renders
  helm template shop ./chart | mizzenctl check -n shop -f -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.add(flags, "namespace of objects without one (default: the kubeconfig's, with --offline \"default\")")
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "file, directory or - for stdin; may be given more than once")
	flags.BoolVar(&o.offline, "offline", false, "check the files alone, without a cluster")
	flags.BoolVar(&o.strict, "strict", false, "exit with code 1 for warnings, too")
	flags.StringVarP(&o.output, "output", "o", "text", "text or json")
	addMeshFlags(flags, &o.meshConfig, &o.system)
	if err := cmd.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is some lines above
	}
	return cmd
}

func (o *checkOptions) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("--output: %q: want text or json", o.output)
	}
	sources, err := readSources(o.files, stdin)
	if err != nil {
		return err
	}
	cluster, err := o.cluster(ctx, stderr)
	if err != nil {
		return err
	}
	namespace := o.namespace
	switch {
	case namespace == "" && o.offline:
		namespace = "default"
	case namespace == "":
		namespace = o.defaultNamespace()
	}
	r := readObjects(sources, namespace)
	applied := slices.Concat(r.objects, r.referred)
	rest, err := readOutside(ctx, cluster.client, cluster.with(applied), cluster.missing, cluster.mesh, func(mesh.Key) bool { return true })
	if err != nil {
		return err
	}
	cluster.objects = append(cluster.objects, rest.found...)
	before := newWorld(cluster.objects, cluster.mesh)
	c := newChecker(r.objects, before, newWorld(cluster.with(applied), cluster.mesh), cluster.around.with(r))
	c.known = known{alone: cluster.alone, missing: cluster.missing, namespaces: rest.namespaces}
	if slices.ContainsFunc(r.objects, ofGateways) {
		rest.notes = append(cluster.missing.notes(), rest.notes...)
	}
	if err := writeNotes(stderr, rest.notes); err != nil {
		return err
	}
	var files []string
	for _, s := range sources {
		files = append(files, s.name)
	}
	findings := sortFindings(slices.Concat(r.findings, c.check(), cluster.findings), files)
	for i := range findings {
		if o.strict {
			findings[i].Severity = severityError
		}
	}
	if err := writeFindings(stdout, findings, o.output); err != nil {
		return err
	}
	summary := summarize(findings, r, cluster.alone)
	for _, f := range findings {
		if f.Severity == severityError {
			return errors.New(summary)
		}
	}
	_, err = fmt.Fprintln(stderr, summary)
	return err
}

// ofGateways reports whether an object may be one for Gateways.
func ofGateways(o *fileObject) bool {
	return o.GetObjectKind().GroupVersionKind().Group == gatewayv1.GroupName
}

// surroundings are the objects to which the files would be added.
type surroundings struct {
	objects
	mesh    *config.Mesh
	around  inhabitants
	missing unread
	// client of the cluster; nil if there is none.
	client client.Client
	// findings are findings about the cluster itself.
	findings []finding
	// alone is set if there is no cluster.
	alone bool
}

// cluster returns the cluster's objects. A cluster that the command line names must answer.
func (o *checkOptions) cluster(ctx context.Context, stderr io.Writer) (surroundings, error) {
	cfg, err := loadMesh(o.meshConfig)
	alone := surroundings{mesh: cfg, alone: true}
	if err != nil || o.offline {
		return alone, err
	}
	var found surroundings
	c, err := o.connect(&o.clusterFlags)
	if err == nil {
		if found.objects, found.missing, err = readCluster(ctx, c); err == nil {
			found.around, err = readInhabitants(ctx, c)
		}
	}
	if err == nil {
		found.mesh, err = clusterReader{Client: c, system: o.system, meshConfig: o.meshConfig}.meshOrDefault(ctx, stderr)
	}
	switch {
	case err == nil:
		found.findings, _ = checkSockets(ctx, c) // check is about the files: what may not be read there is none of them
		found.client = c
		return found, nil
	case o.kubeconfig != "" || o.context != "":
		return alone, err
	default:
		_, err = fmt.Fprintf(stderr, "note: checking the files alone, because no cluster can be read: %v\n", err)
		return alone, err
	}
}

func writeFindings(out io.Writer, findings []finding, format string) error {
	text := renderFindings(findings, paintFor(out))
	if format == "json" {
		if findings == nil {
			findings = []finding{}
		}
		asJSON, err := json.MarshalIndent(findings, "", "  ")
		if err != nil {
			return err
		}
		text = string(asJSON) + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// summarize returns the last line, "2 errors, 1 warning; 5 objects in 2 files, alone".
func summarize(findings []finding, r reading, alone bool) string {
	count := map[severity]int{}
	for _, f := range findings {
		count[f.Severity]++
	}
	text := "no mistakes"
	switch e, w := count[severityError], count[severityWarning]; {
	case e > 0 && w > 0:
		text = plural(e, "error") + ", " + plural(w, "warning")
	case e > 0:
		text = plural(e, "error")
	case w > 0:
		text = plural(w, "warning")
	}
	text += fmt.Sprintf(" in %s of %s", plural(len(r.objects), "object"), plural(r.files, "file"))
	if r.others > 0 {
		text += fmt.Sprintf(" (%d of other kinds not checked)", r.others)
	}
	if alone {
		return text + ", without a cluster"
	}
	return text + ", as if applied to the cluster"
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
