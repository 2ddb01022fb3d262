package ctl

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/webhook"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// identityView is what identity says; -o json and yaml write it as it is.
type identityView struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Workload  string   `json:"workload,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// ID is the SPIFFE ID that the pod has by its service account; empty for a pod without identity.
	ID string `json:"id,omitempty"`
	// Plain is why the pod takes no mTLS.
	Plain string `json:"plain,omitempty"`
	// What the sidecar says of itself.
	Certificate   *agentapi.Certificate `json:"certificate,omitempty"`
	Intermediates []agentapi.Authority  `json:"intermediates,omitempty"`
	Roots         []agentapi.Authority  `json:"roots,omitempty"`
	ControlPlane  string                `json:"controlPlane,omitempty"`
	Trouble       string                `json:"trouble,omitempty"`
	// Takes are the connections that its ports take; the last one is for all other ports.
	Takes []takesView `json:"takes,omitempty"`
	// Policies say who may call; PoliciesUnknown is set where they could not be read.
	Policies        []policyView `json:"policies,omitempty"`
	PoliciesUnknown bool         `json:"policiesUnknown,omitempty"`
	// PlainText is who has called without mTLS.
	PlainText *podPlainView `json:"plainText,omitempty"`
	// Missing is what could not be got, and why.
	Missing []string `json:"missing,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// takesView is what a port takes. Port 0 is every other one.
type takesView struct {
	Port uint16 `json:"port,omitempty"`
	Name string `json:"name,omitempty"`
	// Mode is permissive, strict, or notCaptured.
	Mode   string `json:"mode"`
	SaidBy string `json:"saidBy"`
	// OpenPlain are connections in plain text that are still open though it is strict.
	OpenPlain uint64 `json:"openPlainText,omitempty"`
}

// notCaptured is in the place of a mode where the sidecar does not see a port.
const notCaptured = "not captured"

type podPlainView struct {
	Since     time.Time         `json:"since"`
	Forgotten uint64            `json:"forgotten,omitempty"`
	Callers   []plainCallerView `json:"callers,omitempty"`
}

// plainCallerView is one address that has called.
type plainCallerView struct {
	agentapi.Caller
	Kind      callerKind `json:"kind"`
	Namespace string     `json:"namespace,omitempty"`
	Name      string     `json:"name"`
	Workload  string     `json:"workload,omitempty"`
	Reason    string     `json:"reason"`
}

// identityOf is what Kubernetes knows of a pod.
func (i *inventory) identityOf(p *podInfo) identityView {
	v := identityView{Namespace: p.Namespace, Name: p.Name, Workload: webhook.Workload(p.source), Notes: i.notes}
	for _, ip := range p.IPs {
		v.Addresses = append(v.Addresses, ip.String())
	}
	switch {
	case p.Meshed:
		v.ID = mesh.SPIFFEID(i.cfg.TrustDomain, p.Namespace, p.ServiceAccount)
		v.Takes = i.takesOf(p)
	case p.injected:
		v.Plain = "its sidecar has no identity, because it was injected before the mesh had identities; recreate the pod"
	default:
		v.Plain = i.whyNoSidecar(p)
	}
	return v
}

// takesOf lists the ports that the pod's containers name, those that have a mode of their own, and all others.
func (i *inventory) takesOf(p *podInfo) []takesView {
	names := map[uint16]string{}
	ports := slices.Clone(p.uncaptured())
	for _, c := range p.source.Spec.Containers {
		for _, port := range c.Ports {
			if port.Protocol == corev1.ProtocolTCP || port.Protocol == "" {
				ports = append(ports, uint16(port.ContainerPort))
				names[uint16(port.ContainerPort)] = port.Name
			}
		}
	}
	m := i.modesOf(p)
	for port := range m.ports {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	var out []takesView
	for _, port := range slices.Compact(ports) {
		mode, saidBy := m.at(port)
		takes := takesView{Port: port, Name: names[port], Mode: string(mode), SaidBy: saidBy}
		if slices.Contains(p.PlainPorts, port) {
			takes.Mode, takes.SaidBy = notCaptured, "the capture settings from injection"
		}
		out = append(out, takes)
	}
	return append(out, takesView{Mode: string(m.Mode), SaidBy: m.saidBy})
}

func (v *identityView) miss(what string, err error) {
	v.Missing = append(v.Missing, fmt.Sprintf("%s: %v", what, err))
}

func (v *identityView) setIdentity(id agentapi.Identity, i *inventory) {
	v.Certificate, v.Intermediates, v.Roots = id.Certificate, id.Intermediates, id.Roots
	v.ControlPlane, v.Trouble = id.ControlPlane, id.Trouble
	_, account, _ := strings.Cut(v.ID, i.cfg.TrustDomain)
	switch c := id.Certificate; {
	case c == nil || c.ID == v.ID:
	case !i.meshKnown && strings.HasSuffix(c.ID, account):
		v.ID = c.ID
	default:
		v.Trouble = fmt.Sprintf("the certificate is for %s, but the pod's identity is %s", c.ID, v.ID)
	}
}

func (v *identityView) setPlain(i *inventory, p *podInfo, h heard) {
	v.PlainText = &podPlainView{Since: h.Since, Forgotten: h.Forgotten}
	for _, seen := range h.Callers {
		v.addOpen(seen)
		c := i.caller(seen, p)
		v.PlainText.Callers = append(v.PlainText.Callers, plainCallerView{
			Caller: seen, Kind: c.kind, Namespace: c.namespace, Name: c.name, Workload: c.workload, Reason: c.reason,
		})
	}
}

// addOpen enters what is still open where it is strict. The last of what is taken is for all ports that are not named.
func (v *identityView) addOpen(seen agentapi.Caller) {
	if len(v.Takes) == 0 {
		return
	}
	at := slices.IndexFunc(v.Takes, func(t takesView) bool { return t.Port == seen.Port })
	if at < 0 {
		at = len(v.Takes) - 1
	}
	if v.Takes[at].Mode == string(config.Strict) {
		v.Takes[at].OpenPlain += seen.Live
	}
}
