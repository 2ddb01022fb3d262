package ctl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/version"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// collector collects the files of a report, and why others are missing.
type collector struct {
	client.Client
	agents   agents
	system   string
	now      func() time.Time
	stderr   io.Writer
	files    []reportFile
	failures []string
}

const reportReadme = `A report of mizzenctl bug-report.

status, install-check, stat, version (.yaml)   what these commands say
mesh.yaml                                      the mesh configuration
objects/                                       Gateways, routes and policies, without values of headers and what messages quote
control-plane/POD/                             of each replica: the pod, its log, its metrics, its debug pages
pods/NAMESPACE/POD/                            of some pods: the pod, the sidecar's log, metrics and identity
errors.txt                                     what could not be had, and why

No Secret was read. Pods are without the environment and the containers of applications, and logs without what Envoy logs at its levels
debug and trace.
`

func (r *collector) collect(ctx context.Context, named []mesh.Key) {
	r.add("README.txt", []byte(reportReadme), nil)
	v := versionView{Client: version.Version}
	if err := v.read(ctx, r.Client, r.system); err != nil {
		r.failures = append(r.failures, "version.yaml: "+err.Error())
	}
	r.view("version.yaml", v)
	status := settledStatus(ctx, r.Client, r.agents, r.system)
	r.view("status.yaml", status.view(r.now()))
	r.view("install-check.yaml", readPlatform(ctx, r.Client, r.system).view())
	r.mesh(ctx)
	for _, kind := range []struct {
		name string
		list client.ObjectList
	}{
		{"GatewayClasses", &gatewayv1.GatewayClassList{}},
		{"Gateways", &gatewayv1.GatewayList{}},
		{"ListenerSets", &gatewayv1.ListenerSetList{}},
		{"HTTPRoutes", &gatewayv1.HTTPRouteList{}},
		{"GRPCRoutes", &gatewayv1.GRPCRouteList{}},
		{"TLSRoutes", &gatewayv1.TLSRouteList{}},
		{"TCPRoutes", &gatewayv1.TCPRouteList{}},
		{"UDPRoutes", &gatewayv1.UDPRouteList{}},
		{"BackendTLSPolicies", &gatewayv1.BackendTLSPolicyList{}},
		{"ReferenceGrants", &gatewayv1beta1.ReferenceGrantList{}},
		{"XBackendTrafficPolicies", &gatewayxv1alpha1.XBackendTrafficPolicyList{}},
		{"AuthorizationPolicies", &v1alpha1.AuthorizationPolicyList{}},
	} {
		r.objects(ctx, kind.name, kind.list)
	}
	inv := status.inventory.is
	if status.inventory.err != nil {
		r.failures = append(r.failures, "all pods: "+status.inventory.err.Error())
		inv = r.some(ctx, named)
	} else {
		r.stat(ctx, inv)
	}
	for _, p := range inv.pods {
		if isReplica(p.source, r.system) {
			r.replica(ctx, p)
		}
	}
	if len(named) == 0 && status.inventory.err == nil {
		named = worth(status)
	}
	for _, key := range named {
		switch p, err := inv.pod(key); {
		case err != nil:
			r.failures = append(r.failures, "pods/"+key.String()+": "+err.Error())
		case !hasProxy(p):
			r.failures = append(r.failures, "pods/"+key.String()+": has no sidecar")
		default:
			r.pod(ctx, p)
		}
	}
	r.errorsFile()
}

// some returns the pods of the control plane and the named ones, for who may not list all.
func (r *collector) some(ctx context.Context, named []mesh.Key) *inventory {
	inv := newInventory(r.system)
	var replicas corev1.PodList
	if err := r.List(ctx, &replicas, client.InNamespace(r.system)); err != nil {
		r.failures = append(r.failures, "control-plane: "+err.Error())
	}
	for i := range replicas.Items {
		inv.addPod(&replicas.Items[i])
	}
	for _, key := range named {
		p := &corev1.Pod{}
		if err := r.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, p); err != nil {
			r.failures = append(r.failures, "pods/"+key.String()+": "+err.Error())
		} else {
			inv.addPod(p)
		}
	}
	return inv
}

// mesh adds the mesh configuration.
func (r *collector) mesh(ctx context.Context) {
	var m corev1.ConfigMap
	err := r.Get(ctx, client.ObjectKey{Namespace: r.system, Name: meshConfigMap}, &m)
	r.add("mesh.yaml", []byte(m.Data[meshConfigKey]), err)
}

// objects adds all objects of a kind, if there are any.
func (r *collector) objects(ctx context.Context, name string, into client.ObjectList) {
	file := "objects/" + name + ".yaml"
	if err := listOptional(ctx, r.Client, into, name); err != nil {
		r.add(file, nil, err)
		return
	}
	content, n, err := redactedList(into, r.Scheme())
	if n > 0 || err != nil {
		r.add(file, content, err)
	}
}

// stat adds all calls since the start of each sidecar.
func (r *collector) stat(ctx context.Context, inv *inventory) {
	t := &traffic{agents: r.agents, wanted: func(destination) bool { return true }}
	for _, p := range inv.pods {
		if hasProxy(p) && p.running() {
			t.pods = append(t.pods, p)
		}
	}
	r.view("stat.yaml", t.between(nil, t.read(ctx, r.now, r.stderr)))
}

func (r *collector) replica(ctx context.Context, p *podInfo) {
	dir := "control-plane/" + p.Name + "/"
	r.yaml(dir+"pod.yaml", redactedPod(p.source, controllerContainers))
	r.logs(ctx, dir, p, controllerContainers)
	for file, path := range map[string]string{"metrics.txt": "/metrics", "proxies.json": "/debug/proxies", "problems.json": "/debug/problems"} {
		content, err := r.agents.page(ctx, p.Key, config.ControllerHTTPPort, path)
		r.add(dir+file, content, err)
	}
}

func (r *collector) pod(ctx context.Context, p *podInfo) {
	dir := fmt.Sprintf("pods/%s/%s/", p.Namespace, p.Name)
	r.yaml(dir+"pod.yaml", redactedPod(p.source, sidecarContainers))
	r.logs(ctx, dir, p, sidecarContainers)
	for file, path := range map[string]string{"metrics.txt": "/metrics", "identity.json": agentapi.IdentityPath} {
		content, err := r.agents.page(ctx, p.Key, config.AgentPort, path)
		r.add(dir+file, content, err)
	}
}

// logs adds the logs of containers, and those from before a restart.
func (r *collector) logs(ctx context.Context, dir string, p *podInfo, containers []string) {
	for _, s := range slices.Concat(p.source.Status.InitContainerStatuses, p.source.Status.ContainerStatuses) {
		if !slices.Contains(containers, s.Name) {
			continue
		}
		for previous, file := range map[bool]string{false: s.Name + ".log", true: s.Name + ".previous.log"} {
			if previous && s.RestartCount == 0 {
				continue
			}
			content, err := r.agents.log(ctx, p.Key, s.Name, previous)
			r.add(dir+file, redactedLog(content), err)
		}
	}
}

func (r *collector) yaml(name string, object runtime.Object) {
	content, err := yaml.Marshal(object)
	r.add(name, content, err)
}

// worth returns some pods that something is wrong with.
func worth(status *meshStatus) []mesh.Key {
	unconnected := status.unconnected()
	var out []mesh.Key
	for _, p := range status.inventory.is.pods {
		if len(out) < worstPods && hasProxy(p) && !p.ended() && (!ready(p.source) || slices.Contains(unconnected, p)) {
			out = append(out, p.Key)
		}
	}
	return out
}
