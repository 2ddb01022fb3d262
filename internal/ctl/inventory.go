package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/webhook"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// meshConfigMap holds the mesh configuration in the control plane's namespace.
const (
	meshConfigMap = "mizzen-mesh"
	meshConfigKey = "mesh.yaml"
)

// inventory has the objects from which identities and callers are derived.
type inventory struct {
	// cfg is the mesh's configuration if meshKnown is set, else Mizzen's defaults.
	cfg        *config.Mesh
	meshKnown  bool
	pods       []*podInfo // in the order of their names
	byKey      map[mesh.Key]*podInfo
	byIP       map[netip.Addr][]*podInfo // without those that share their node's addresses
	namespaces map[string]*corev1.Namespace
	// namespacesErr is why there are none.
	namespacesErr error
	nodes         []corev1.Node
	system        string
	// partial is set if not all pods and nodes were readable.
	partial bool
	// notes say what could not be read, and what is missing because of that.
	notes []string
}

// podInfo is a pod as Kubernetes and as the mesh sees it.
type podInfo struct {
	*mesh.Pod
	source   *corev1.Pod
	workload string
	// injected is set for a pod with a sidecar, even one without identity.
	injected bool
}

func newInventory(system string) *inventory {
	return &inventory{
		cfg: config.Default(), system: system, namespaces: map[string]*corev1.Namespace{},
		byKey: map[mesh.Key]*podInfo{}, byIP: map[netip.Addr][]*podInfo{},
	}
}

// clusterReader reads an inventory from a cluster.
type clusterReader struct {
	client.Client
	// system is the control plane's namespace, and meshConfig a file in place of its ConfigMap.
	system, meshConfig string
}

// inventory reads pods of all namespaces, because callers may be in any of them. If the user may read only one
// namespace, callers in other namespaces have no names.
func (c clusterReader) inventory(ctx context.Context, namespace string) (*inventory, error) {
	inv := newInventory(c.system)
	var pods corev1.PodList
	err := c.List(ctx, &pods)
	if apierrors.IsForbidden(err) && namespace != "" {
		inv.partial = true
		inv.note("cannot name callers outside namespace %s: list Pods of all namespaces: %w", namespace, err)
		err = c.List(ctx, &pods, client.InNamespace(namespace))
	}
	if err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	for i := range pods.Items {
		inv.addPod(&pods.Items[i])
	}
	slices.SortFunc(inv.pods, func(a, b *podInfo) int { return a.Compare(b.Key) })
	var namespaces corev1.NamespaceList
	if err := c.List(ctx, &namespaces); err != nil {
		inv.namespacesErr = fmt.Errorf("list Namespaces: %w", err)
		inv.note("cannot read labels and annotations of namespaces: list Namespaces: %w", err)
	}
	for i := range namespaces.Items {
		inv.namespaces[namespaces.Items[i].Name] = &namespaces.Items[i]
	}
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		inv.partial = true
		inv.note("cannot tell callers on nodes from callers outside of the cluster: list Nodes: %w", err)
	}
	inv.nodes = nodes.Items
	switch cfg, err := c.mesh(ctx); {
	case err == nil:
		inv.cfg, inv.meshKnown = cfg, true
	case c.meshConfig != "":
		return nil, err
	default:
		inv.note("assuming Mizzen's defaults for the mesh (set others with --mesh-config): %w", err)
	}
	return inv, nil
}

func (c clusterReader) mesh(ctx context.Context) (*config.Mesh, error) {
	if c.meshConfig != "" {
		return config.Load(c.meshConfig)
	}
	var m corev1.ConfigMap
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.system, Name: meshConfigMap}, &m); err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s: %w", c.system, meshConfigMap, err)
	}
	text, ok := m.Data[meshConfigKey]
	if !ok {
		return nil, fmt.Errorf("ConfigMap %s/%s has no %s", c.system, meshConfigMap, meshConfigKey)
	}
	cfg, err := config.Parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s: %w", c.system, meshConfigMap, err)
	}
	return cfg, nil
}

// meshOrDefault returns the mesh's configuration, or Mizzen's defaults with a note.
func (c clusterReader) meshOrDefault(ctx context.Context, stderr io.Writer) (*config.Mesh, error) {
	cfg, err := c.mesh(ctx)
	if err == nil || c.meshConfig != "" {
		return cfg, err
	}
	_, err = fmt.Fprintf(stderr, "note: assuming Mizzen's defaults for the mesh (set others with --mesh-config): %v\n", err)
	return config.Default(), err
}

func (i *inventory) note(format string, args ...any) {
	i.notes = append(i.notes, fmt.Errorf(format, args...).Error())
}

func (i *inventory) addPod(source *corev1.Pod) {
	p := &podInfo{
		Pod: mesh.BuildPod(source), source: source, workload: cmp.Or(webhook.Workload(source), "Pod/"+source.Name),
		injected: sidecar.Has(source),
	}
	i.pods = append(i.pods, p)
	i.byKey[p.Key] = p
	if p.HostNetwork {
		return
	}
	for _, ip := range source.Status.PodIPs { // also of one that has ended: it may have called
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			i.byIP[addr] = append(i.byIP[addr], p)
		}
	}
}

// ended pods accept no calls.
func (p *podInfo) ended() bool {
	return p.source.Status.Phase == corev1.PodSucceeded || p.source.Status.Phase == corev1.PodFailed
}

// running reports whether a pod's agent can be asked.
func (p *podInfo) running() bool { return p.source.Status.Phase == corev1.PodRunning }

// modes are a pod's mTLS modes, with their origin.
type modes struct {
	mesh.Inbound
	// saidBy is the origin of Mode, and portsSaidBy that of ports with a mode of their own.
	saidBy, portsSaidBy string
	ports               map[uint16]config.MTLSMode
}

func (i *inventory) modesOf(p *podInfo) modes {
	var ns config.MTLS
	if n := i.namespaces[p.Namespace]; n != nil {
		ns, _ = config.MTLSOf(config.OnNamespace, n.Annotations)
	}
	m := modes{Inbound: mesh.BuildInbound(p.MTLS, ns, i.cfg.MTLS.Mode), ports: p.MTLS.Over(ns).Ports, portsSaidBy: config.AnnotationMTLSPorts + " of the pod"}
	if p.MTLS.Ports == nil {
		m.portsSaidBy = config.AnnotationMTLSPorts + " of the namespace"
	}
	switch {
	case p.MTLS.Mode != "":
		m.saidBy = config.AnnotationMTLS + " of the pod"
	case ns.Mode != "":
		m.saidBy = config.AnnotationMTLS + " of the namespace"
	default:
		m.saidBy = "mtls.mode of the mesh"
	}
	return m
}

// at returns the mode of a port.
func (m modes) at(port uint16) (mode config.MTLSMode, saidBy string) {
	if mode, named := m.ports[port]; named {
		return mode, m.portsSaidBy
	}
	return m.Mode, m.saidBy
}

// uncaptured returns the application's ports that its sidecar does not see.
func (p *podInfo) uncaptured() []uint16 {
	return slices.DeleteFunc(slices.Clone(p.PlainPorts), func(port uint16) bool { return port == config.AgentPort })
}

// pod finds the pod that the command line names.
func (i *inventory) pod(key mesh.Key) (*podInfo, error) {
	if p := i.byKey[key]; p != nil {
		return p, nil
	}
	return nil, errors.New("Pod " + key.String() + " does not exist")
}
