package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// exitNotWell is the exit code of status if something is wrong, or could not be found out.
const exitNotWell = 2

type statusOptions struct {
	clusterFlags
	connect connector
	agents  agentConnector
	now     func() time.Time
	system  string
	output  string
}

func newStatusCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := statusOptions{connect: connect, agents: agents, now: now}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show at a glance whether the mesh is well, and what is wrong",
		Long: `Show whether the mesh is well: the replicas of the control plane, its webhook, whether sidecars and gateways are
connected and have what they should have, pods that lack the sidecar that their namespace asks for, versions, how long
certificates live, Gateways, and the problems in objects that Mizzen works around. What is wrong has lines of its
own, which name the object and say what to do.

Kubernetes must allow you to list pods, namespaces and nodes, to get the Deployment mizzen-controller and the
MutatingWebhookConfiguration mizzen, to list Gateways and GatewayClasses, and to get and create pods/portforward
in the control plane's namespace. What may not be read is unknown, and the rest is shown.

The exit code is 0 if all is well or there are warnings only, 2 if something is wrong or unknown, and 1 if there is no
cluster.`,
		Example: `  mizzenctl status

  # In a script, after an upgrade
  mizzenctl status -o json | jq -r '.checks[] | select(.state != "ok") | .text'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	o.addCluster(flags)
	flags.StringVar(&o.system, "system-namespace", config.SystemNamespace, "namespace of the control plane")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func (o *statusOptions) run(ctx context.Context, stdout io.Writer) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return err
	}
	a, err := o.agents(&o.clusterFlags)
	if err != nil {
		return err
	}
	s := settledStatus(ctx, c, a, o.system)
	if err := ctx.Err(); err != nil {
		return err
	}
	v := s.view(o.now())
	if err := write(stdout, o.output, v, func(p paint) string { return renderStatus(v, p) }); err != nil {
		return err
	}
	return v.exit()
}

// settledStatus looks again while a proxy is not connected.
func settledStatus(ctx context.Context, c client.Client, a agents, system string) *meshStatus {
	s := readStatus(ctx, c, a, system)
	for range looks {
		if len(s.unconnected()) == 0 || !waited(ctx, lookAgain) {
			break
		}
		s.look(ctx, a)
	}
	return s
}

// A proxy may be between two connections, or between two replicas of which one was asked before it came and the other after it left.
// So status looks again before it calls a proxy not connected.
const looks = 2

var lookAgain = 3 * time.Second

// waited reports whether the time has passed before ctx ended.
func waited(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// read is something of a cluster, or why it could not be read.
type read[T any] struct {
	is  T
	err error
}

// meshStatus is what status judges.
type meshStatus struct {
	system     string
	inventory  read[*inventory]
	controller read[*appsv1.Deployment]
	webhook    read[*admissionv1.MutatingWebhookConfiguration]
	classes    read[*gatewayv1.GatewayClassList]
	gateways   read[*gatewayv1.GatewayList]
	replicas   []replicaStatus
	// revisions are control planes beside the main one.
	revisions map[string]*revision
	// proxies are those that a replica has had in one of the looks, by pod.
	proxies map[string]connectedProxy
}

// replicaStatus is what one replica of the control plane says.
type replicaStatus struct {
	pod, version, revision string
	proxies                []connectedProxy
	problems               map[string][]string
	metrics                metrics
	err                    error
}

// connectedProxy is one of /debug/proxies.
type connectedProxy struct {
	Proxy string `json:"proxy"`
	Types map[string]struct {
		Unacknowledged bool `json:"unacknowledged"`
	} `json:"types"`
	NACKs map[string]struct {
		Resources []string `json:"resources"`
		Error     string   `json:"error"`
		// Over is set once the proxy has accepted a later version.
		Over *time.Time `json:"over"`
	} `json:"nacks"`
}

func readStatus(ctx context.Context, c client.Client, a agents, system string) *meshStatus {
	s := &meshStatus{system: system}
	s.inventory.is, s.inventory.err = clusterReader{Client: c, system: system}.inventory(ctx, "")
	s.controller = get(ctx, c, client.ObjectKey{Namespace: system, Name: controllerName}, &appsv1.Deployment{})
	s.webhook = get(ctx, c, client.ObjectKey{Name: "mizzen"}, &admissionv1.MutatingWebhookConfiguration{})
	s.classes = read[*gatewayv1.GatewayClassList]{is: &gatewayv1.GatewayClassList{}}
	s.classes.err = listOptional(ctx, c, s.classes.is, "GatewayClasses")
	s.gateways = read[*gatewayv1.GatewayList]{is: &gatewayv1.GatewayList{}}
	s.gateways.err = listOptional(ctx, c, s.gateways.is, "Gateways")
	s.readRevisions(ctx, c)
	s.look(ctx, a)
	return s
}

// look asks all replicas that run. One that is not ready may still serve proxies; that it does not answer says nothing.
func (s *meshStatus) look(ctx context.Context, a agents) {
	if s.inventory.err != nil {
		return
	}
	s.replicas = nil
	for _, p := range s.inventory.is.pods {
		if !isReplica(p.source, s.system) || !p.running() {
			continue
		}
		if r := askReplica(ctx, a, p); r.err == nil || ready(p.source) {
			s.replicas = append(s.replicas, r)
		}
	}
	if s.proxies == nil {
		s.proxies = map[string]connectedProxy{}
	}
	for _, r := range s.replicas {
		for _, p := range r.proxies {
			s.proxies[p.Proxy] = p
		}
	}
}

func get[T client.Object](ctx context.Context, c client.Client, key client.ObjectKey, into T) read[T] {
	return read[T]{into, c.Get(ctx, key, into)}
}

func askReplica(ctx context.Context, a agents, p *podInfo) replicaStatus {
	r := replicaStatus{pod: p.Name, version: p.source.Labels[versionLabel], revision: p.source.Labels[config.LabelRevision]}
	page := func(path string) []byte {
		if r.err != nil {
			return nil
		}
		var body []byte
		if body, r.err = a.page(ctx, p.Key, config.ControllerHTTPPort, path); r.err != nil {
			r.err = fmt.Errorf("%s: %w", path, r.err)
		}
		return body
	}
	decode := func(path string, into any) {
		if body := page(path); r.err == nil {
			if err := json.Unmarshal(body, into); err != nil {
				r.err = fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	decode("/debug/proxies", &r.proxies)
	decode("/debug/problems", &r.problems)
	if body := page("/metrics"); r.err == nil {
		r.metrics, r.err = readMetrics(body)
	}
	if v := r.metrics.label("mizzen_controller_build_info", "version"); v != "" {
		r.version = v // the pod's label has the chart's
	}
	return r
}

// ready reports whether Kubernetes calls a pod ready, and does not end it.
func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// unconnected returns the pods with a proxy that are ready and that no replica has.
func (s *meshStatus) unconnected() []*podInfo {
	if s.unheard() != nil {
		return nil
	}
	var out []*podInfo
	for _, p := range append(s.inventory.is.sidecars(), s.gatewayPods()...) {
		if _, connected := s.proxies[p.String()]; !connected && p.running() && ready(p.source) {
			out = append(out, p)
		}
	}
	return out
}

// gatewayPods returns the pods of Gateways of our classes that have not ended.
func (s *meshStatus) gatewayPods() []*podInfo {
	ours := map[string]bool{}
	for class := range s.ourClasses() {
		ours[mesh.GatewayLabel(string(class))] = true
	}
	return slices.DeleteFunc(slices.Clone(s.inventory.is.pods), func(p *podInfo) bool {
		return !ours[p.source.Labels[gatewayv1.GatewayClassNameLabelKey]] || p.ended()
	})
}

// unheard returns why not all replicas could be asked, or nil.
func (s *meshStatus) unheard() error {
	switch {
	case s.inventory.err != nil:
		return s.inventory.err
	case len(s.replicas) == 0:
		return errors.New("no replica of the control plane is ready")
	}
	for _, r := range s.replicas {
		if r.err != nil {
			return fmt.Errorf("pod %s/%s: %w", s.system, r.pod, r.err)
		}
	}
	return nil
}

// sidecars returns the pods that have a sidecar and have not ended.
func (i *inventory) sidecars() []*podInfo {
	return slices.DeleteFunc(slices.Clone(i.pods), func(p *podInfo) bool { return !p.injected || p.ended() })
}

// ourClasses are the names of the GatewayClasses of our controller.
func (s *meshStatus) ourClasses() map[gatewayv1.ObjectName]bool {
	out := map[gatewayv1.ObjectName]bool{}
	for _, class := range s.classes.is.Items {
		if class.Spec.ControllerName == config.ControllerName {
			out[gatewayv1.ObjectName(class.Name)] = true
		}
	}
	return out
}

func podName(k mesh.Key) string { return "pod " + k.String() }
