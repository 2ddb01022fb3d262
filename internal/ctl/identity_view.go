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

// identityView is the result of identity, and the format of -o json and yaml.
type identityView struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Workload  string   `json:"workload,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// ID is the pod's SPIFFE ID, from its service account; empty for a pod without identity.
	ID string `json:"id,omitempty"`
	// Plain is the reason why the pod does not accept mTLS.
	Plain string `json:"plain,omitempty"`
	// The sidecar's answer.
	Certificate   *agentapi.Certificate `json:"certificate,omitempty"`
	Intermediates []agentapi.Authority  `json:"intermediates,omitempty"`
	Roots         []agentapi.Authority  `json:"roots,omitempty"`
	ControlPlane  string                `json:"controlPlane,omitempty"`
	Trouble       string                `json:"trouble,omitempty"`
	// Takes are the connections that its ports accept; the last entry is for all other ports.
	Takes []takesView `json:"takes,omitempty"`
	// Policies apply to the pod. PoliciesUnknown is set if they could not be read.
	Policies        []policyView `json:"policies,omitempty"`
	PoliciesUnknown bool         `json:"policiesUnknown,omitempty"`
	// PlainText are the callers without mTLS.
	PlainText *podPlainView `json:"plainText,omitempty"`
	// Missing are the missing parts, with the reasons.
	Missing []string `json:"missing,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// takesView is what a port accepts. Port 0 means every other port.
type takesView struct {
	Port uint16 `json:"port,omitempty"`
	Name string `json:"name,omitempty"`
	// Mode is permissive, strict, or notCaptured.
	Mode   string `json:"mode"`
	SaidBy string `json:"saidBy"`
	// OpenPlain are connections in plain text that are still open although the port is strict.
	OpenPlain uint64 `json:"openPlainText,omitempty"`
}

// notCaptured is the mode of a port that the sidecar does not see.
const notCaptured = "not captured"

type podPlainView struct {
	Since     time.Time         `json:"since"`
	Forgotten uint64            `json:"forgotten,omitempty"`
	Callers   []plainCallerView `json:"callers,omitempty"`
}

// plainCallerView is one calling address.
type plainCallerView struct {
	agentapi.Caller
	Kind      callerKind `json:"kind"`
	Namespace string     `json:"namespace,omitempty"`
	Name      string     `json:"name"`
	Workload  string     `json:"workload,omitempty"`
	Reason    string     `json:"reason"`
}

// identityOf returns the view from Kubernetes' objects.
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

// takesOf returns the ports that the pod's containers name, those with a mode of their own, and an entry for all
// others.
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

// addOpen adds connections that are still open at strict ports. The last entry of Takes is for all ports without an
// entry.
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
