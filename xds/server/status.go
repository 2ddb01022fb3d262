package server

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// controlPlane is how the server names itself to proxies.
var controlPlane = &corev3.ControlPlane{Identifier: "mizzen-controller/" + version.Version}

// ProxyStatus is what is known of one connected proxy, for a person who debugs.
type ProxyStatus struct {
	Proxy          string                `json:"proxy"`
	ServiceAccount string                `json:"serviceAccount"`
	KubernetesNode string                `json:"kubernetesNode"`
	Version        string                `json:"version"`
	Connected      time.Time             `json:"connected"`
	Types          map[string]TypeStatus `json:"types"`
	// NACKs are the configurations that the proxy refused last, by type.
	NACKs map[string]NACK `json:"nacks,omitempty"`
}

// TypeStatus is the state of one resource type.
type TypeStatus struct {
	// All is set where the proxy gets every resource of the type.
	All bool `json:"all,omitempty"`
	// Sent is the number of resources the proxy holds or was sent, where it does not get all.
	Sent int `json:"sent"`
	// Unacknowledged is true while an answer of the proxy is awaited.
	Unacknowledged bool `json:"unacknowledged"`
}

// NACK is a configuration that a proxy refused. It keeps its last good one.
type NACK struct {
	Time      time.Time `json:"time"`
	Count     int       `json:"count"`
	Resources []string  `json:"resources"`
	Error     string    `json:"error"`
}

func newStatus(n node.Node) ProxyStatus {
	return ProxyStatus{
		Proxy:          n.ID(),
		ServiceAccount: n.ServiceAccount,
		KubernetesNode: n.NodeName,
		Version:        n.Version,
		Connected:      time.Now(),
		Types:          map[string]TypeStatus{},
		NACKs:          map[string]NACK{},
	}
}

func (s *stream) updateStatus(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Types[shortType(sub.typeURL)] = TypeStatus{
		All: sub.follows(), Sent: len(sub.sent), Unacknowledged: sub.nonce != "",
	}
}

// queued is the number of names that the proxy is still to be told of: those that run has not looked at,
// and those that wait for an answer of the proxy.
func (s *stream) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) + s.waitingNames
}

func (s *stream) noteWaiting() {
	n := 0
	for _, sub := range s.subs {
		n += len(sub.dirty)
	}
	s.mu.Lock()
	s.waitingNames = n
	s.mu.Unlock()
}

func (s *stream) unacknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, t := range s.status.Types {
		if t.Unacknowledged {
			n++
		}
	}
	return n
}

// What is kept and logged of a refused response.
const (
	namesInNACK   = 20
	messageInNACK = 4 << 10
)

func (s *stream) nacked(sub *subscription, message string) {
	short := shortType(sub.typeURL)
	s.metrics.nacks.WithLabelValues(typeLabel(sub.typeURL)).Inc()
	message = message[:min(len(message), messageInNACK)]
	named := sub.mentioned(message)
	s.log.Error(nil, "proxy refused configuration (NACK) and keeps its last good one", "type", short, "resources", named, "error", message)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.NACKs[short] = NACK{Time: time.Now(), Count: s.status.NACKs[short].Count + 1, Resources: named, Error: message}
}

// mentioned are the names in flight that the error speaks of, or the first ones if it speaks of none.
func (s *subscription) mentioned(message string) []string {
	names := slices.Clone(s.inFlightGone)
	for _, e := range s.inFlight {
		names = append(names, e.name)
	}
	var out []string
	for _, n := range names {
		if strings.Contains(message, n) {
			out = append(out, n)
		}
	}
	if out == nil {
		out = names
	}
	return out[:min(len(out), namesInNACK)]
}

func (s *stream) snapshot() ProxyStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.status
	out.Types = maps.Clone(out.Types)
	out.NACKs = maps.Clone(out.NACKs)
	return out
}

// shortType is the last word of a type URL, as "Cluster" or "ClusterLoadAssignment".
func shortType(typeURL string) string {
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
