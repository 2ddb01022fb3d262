package ctl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/version"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/consts"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/webhook"
)

// oldestKubernetes is that of the chart (kubeVersion).
const oldestKubernetes = "1.30.0"

// architectures are those of the proxy's image.
var architectures = []string{"amd64", "arm64"}

func (p *platform) view() statusView {
	return viewOf([]namedCheck{
		{"kubernetes", p.checkKubernetes},
		{"nodes", p.checkNodes},
		{"gateway api", p.checkGatewayAPI},
		{"namespaces", p.checkNamespaces},
		{"other meshes", p.checkOtherMeshes},
		{"kube-proxy", p.checkSockets},
		{"cni plugin", p.checkCNI},
		{"mizzen", p.checkMizzen},
	})
}

// checkKubernetes looks at the kubelets: none is newer than the API server, and sidecars need both.
// https://kubernetes.io/releases/version-skew-policy/#kubelet
func (p *platform) checkKubernetes(c *statusCheck) {
	if p.nodes.err != nil {
		c.unknown(p.nodes.err)
		return
	}
	oldest := version.MustParseGeneric(oldestKubernetes)
	versions := map[string]bool{}
	for _, n := range p.nodes.is.Items {
		kubelet := n.Status.NodeInfo.KubeletVersion
		versions[kubelet] = true
		if v, err := version.ParseGeneric(kubelet); err != nil || v.LessThan(oldest) {
			c.add(stateError, "node "+n.Name, fmt.Sprintf("has kubelet %s; want %s or later", kubelet, oldest), "")
		}
	}
	c.Text = "kubelets " + strings.Join(slices.Sorted(maps.Keys(versions)), ", ")
	if len(versions) == 0 {
		c.State, c.Text = stateUnknown, "cannot be told: there are no nodes"
	}
}

func (p *platform) checkNodes(c *statusCheck) {
	if p.nodes.err != nil {
		c.unknown(p.nodes.err)
		return
	}
	kinds := map[string]int{}
	for _, n := range p.nodes.is.Items {
		info := n.Status.NodeInfo
		kinds[info.OperatingSystem+"/"+info.Architecture]++
		switch {
		case info.OperatingSystem != string(corev1.Linux):
			c.add(stateWarning, "node "+n.Name, fmt.Sprintf("runs %s: there is no sidecar for its pods; want them in namespaces without injection", info.OperatingSystem), "")
		case !slices.Contains(architectures, info.Architecture):
			c.add(stateError, "node "+n.Name, fmt.Sprintf("has the architecture %s; the images have %s", info.Architecture, strings.Join(architectures, " and ")), "")
		}
	}
	var of []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		of = append(of, fmt.Sprintf("%d of %s", kinds[kind], kind))
	}
	c.Text = cmp.Or(strings.Join(of, ", "), "none")
}

// gatewayCRDs is how to install the CRDs of a channel of the Gateway API.
func gatewayCRDs(channel string) string {
	return "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/" + consts.BundleVersion + "/" + channel + "-install.yaml"
}

// bundle is a version of the CRDs of the Gateway API and a channel, as their annotations say.
type bundle struct{ version, channel string }

// upgrade is how to come from it to the version that Mizzen is made for. There is no way back from a later one.
func (b bundle) upgrade() string {
	is, err := version.ParseGeneric(b.version)
	if err != nil || !is.LessThan(version.MustParseGeneric(consts.BundleVersion)) || b.channel == "" {
		return ""
	}
	return gatewayCRDs(b.channel)
}

func (p *platform) checkGatewayAPI(c *statusCheck) {
	if p.crds.err != nil {
		c.unknown(p.crds.err)
		return
	}
	bundles := map[bundle][]string{}
	for _, crd := range p.crds.is.Items {
		if strings.HasSuffix(crd.Name, "."+gatewayv1.GroupName) {
			b := bundle{crd.Annotations[consts.BundleVersionAnnotation], crd.Annotations[consts.ChannelAnnotation]}
			bundles[b] = append(bundles[b], crd.Name)
		}
	}
	if len(bundles) == 0 {
		c.Text = "not installed"
		c.add(stateWarning, "cluster", "has no CRDs of the Gateway API: calls are balanced, but there are no routes and no Gateways. They may come at any time", gatewayCRDs("standard"))
		return
	}
	var names []string
	for _, b := range slices.SortedFunc(maps.Keys(bundles), func(a, b bundle) int {
		return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.channel, b.channel))
	}) {
		name := strings.TrimSpace(cmp.Or(b.version, "no version") + " " + b.channel)
		names = append(names, name)
		if !strings.HasPrefix(b.version, config.GatewayAPIVersions) {
			crds := bundles[b]
			slices.Sort(crds)
			text := fmt.Sprintf("is of %s; want %sx. Routes and Gateways are served as far as they can be", name, config.GatewayAPIVersions)
			if len(crds) > 1 {
				text += fmt.Sprintf(". So are %d more", len(crds)-1)
			}
			c.add(stateWarning, "customresourcedefinition "+crds[0], text, b.upgrade())
		}
	}
	c.Text = strings.Join(names, ", ")
}

// otherMesh is a mesh whose sidecars or node proxies take the traffic of pods, too.
type otherMesh struct {
	name string
	// webhook begins the name of its MutatingWebhookConfiguration.
	webhook string
	// takes returns what of a namespace says that its pods are in the mesh, or "".
	takes func(*corev1.Namespace) string
}

func labelled(key string, values ...string) func(*corev1.Namespace) string {
	return func(n *corev1.Namespace) string {
		if value, ok := n.Labels[key]; ok && (len(values) == 0 || slices.Contains(values, value)) {
			return "label " + key + "=" + value
		}
		return ""
	}
}

// Sources:
//   - https://istio.io/latest/docs/reference/config/labels/
//   - https://linkerd.io/2/features/proxy-injection/
//   - https://kuma.io/docs/latest/reference/kubernetes-annotations/
var otherMeshes = []otherMesh{
	{"Istio", "istio-sidecar-injector", func(n *corev1.Namespace) string {
		if n.Labels["istio-injection"] == "disabled" { // it comes before istio.io/rev
			return labelled("istio.io/dataplane-mode", "ambient")(n)
		}
		return cmp.Or(labelled("istio-injection", "enabled")(n), labelled("istio.io/rev")(n), labelled("istio.io/dataplane-mode", "ambient")(n))
	}},
	{"Linkerd", "linkerd-proxy-injector", func(n *corev1.Namespace) string {
		if value := n.Annotations["linkerd.io/inject"]; value == "enabled" || value == "ingress" {
			return "annotation linkerd.io/inject=" + value
		}
		return ""
	}},
	{"Kuma", "kuma-admission-mutating", labelled("kuma.io/sidecar-injection", "enabled", "true")},
}

// checkNamespaces looks at the namespaces of the mesh.
func (p *platform) checkNamespaces(c *statusCheck) {
	if p.namespaces.err != nil {
		c.unknown(p.namespaces.err)
		return
	}
	ours := 0
	for i := range p.namespaces.is.Items {
		n := &p.namespaces.is.Items[i]
		if n.Labels[config.LabelInjection] != config.InjectionEnabled {
			continue
		}
		ours++
		switch why, want := webhook.RefusesCapture(n.Labels); {
		case why == "" || p.cni.err == nil:
		case apierrors.IsNotFound(p.cni.err):
			c.add(stateError, "namespace "+n.Name, why+": the API server refuses its pods", "install the CNI plugin (cni.enabled=true in the chart's values), or "+want)
		default:
			c.add(stateUnknown, "namespace "+n.Name, why+", unless the CNI plugin is installed, which cannot be told: "+p.cni.err.Error(), "")
		}
		for _, mesh := range otherMeshes {
			if said := mesh.takes(n); said != "" {
				c.add(stateError, "namespace "+n.Name, fmt.Sprintf("is in %s, too (%s): its pods would get two proxies", mesh.name, said), "take one of the two away")
			}
		}
	}
	c.Text = fmt.Sprintf("%d of %d in the mesh", ours, len(p.namespaces.is.Items))
}

func (p *platform) checkOtherMeshes(c *statusCheck) {
	if p.webhooks.err != nil {
		c.unknown(p.webhooks.err)
		return
	}
	var found []string
	for _, mesh := range otherMeshes {
		for _, w := range p.webhooks.is.Items {
			if strings.HasPrefix(w.Name, mesh.webhook) {
				found = append(found, fmt.Sprintf("%s (%s)", mesh.name, w.Name))
			}
		}
	}
	c.Text = "none"
	if len(found) > 0 { // each may have namespaces of its own: see namespaces
		c.Text = strings.Join(found, ", ")
	}
}

func (p *platform) checkSockets(c *statusCheck) {
	if p.sockets.err != nil {
		c.unknown(p.sockets.err)
	} else {
		c.Text = "no socket load balancing found"
	}
	for _, f := range p.sockets.is {
		c.Text = "replaced, and Services are translated in the sockets of pods"
		c.add(stateWarning, f.Object, fmt.Sprintf("%s: %q: %s", f.Field, f.Value, f.Problem), "want "+f.Want)
	}
}

func (p *platform) checkCNI(c *statusCheck) {
	switch {
	case apierrors.IsNotFound(p.cni.err):
		c.Text = "not installed: pods get an init container with NET_ADMIN"
		return
	case p.cni.err != nil:
		c.unknown(p.cni.err)
		return
	}
	s := p.cni.is.Status
	c.Text = fmt.Sprintf("%d of %d nodes ready", s.NumberReady, s.DesiredNumberScheduled)
	if s.NumberReady < s.DesiredNumberScheduled {
		c.add(stateError, fmt.Sprintf("daemonset %s/%s", p.system, cniName), fmt.Sprintf("is not ready on %s: pods with a sidecar wait there", plural(int(s.DesiredNumberScheduled-s.NumberReady), "node")),
			fmt.Sprintf("kubectl get pods -n %s -l app.kubernetes.io/name=%s -o wide", p.system, cniName))
	}
}

func (p *platform) checkMizzen(c *statusCheck) {
	switch {
	case apierrors.IsNotFound(p.controller.err):
		c.Text = "not installed yet in namespace " + p.system
	case p.controller.err != nil:
		c.unknown(p.controller.err)
	default:
		c.Text = "installed; mizzenctl status says how it is"
	}
}
