package server

import (
	"maps"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// controlPlane names the server in its responses.
var controlPlane = &corev3.ControlPlane{Identifier: "mizzen-controller/" + version.Version}

// ProxyStatus is the state of one connected proxy, for people who debug.
type ProxyStatus struct {
	Proxy          string                `json:"proxy"`
	ServiceAccount string                `json:"serviceAccount"`
	KubernetesNode string                `json:"kubernetesNode"`
	Version        string                `json:"version"`
	Connected      time.Time             `json:"connected"`
	Types          map[string]TypeStatus `json:"types"`
	// NACKs has the last configuration that the proxy refused, by type.
	NACKs map[string]NACK `json:"nacks,omitempty"`
}

// TypeStatus is the state of one resource type.
type TypeStatus struct {
	// Sent is the number of resources that the proxy holds or was sent.
	Sent int `json:"sent"`
	// Unacknowledged is true while the proxy has not answered the last response.
	Unacknowledged bool `json:"unacknowledged"`
}

// NACK is a configuration that a proxy refused. It keeps its last good one.
type NACK struct {
	Time      time.Time `json:"time"`
	Count     int       `json:"count"`
	Resources []string  `json:"resources"`
	Error     string    `json:"error"`
	// Over is when the proxy had accepted a later version of each resource that it has refused, or its removal.
	Over *time.Time `json:"over,omitempty"`
}

// Bounds of what is kept and logged of a refused response.
const (
	namesInNACK   = 20
	messageInNACK = 4 << 10
)

// liveStatus is the status of one stream. The stream's goroutine writes it and others read it.
type liveStatus struct {
	mu     sync.Mutex
	status ProxyStatus
	// dirty counts the names that wait after the last advance.
	dirty int
	// refusing are the names that the proxy has refused and of which it has accepted no later version, by type.
	refusing map[string]set
}

func newLiveStatus(n node.Node) liveStatus {
	return liveStatus{refusing: map[string]set{}, status: ProxyStatus{
		Proxy:          n.ID(),
		ServiceAccount: n.ServiceAccount,
		KubernetesNode: n.NodeName,
		Version:        n.Version,
		Connected:      time.Now(),
		Types:          map[string]TypeStatus{},
		NACKs:          map[string]NACK{},
	}}
}

// update takes the state of one type.
func (p *liveStatus) update(sub *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Types[shortType(sub.typeURL)] = TypeStatus{
		Sent: len(sub.sent), Unacknowledged: sub.unacknowledged(),
	}
}

func (p *liveStatus) setDirty(names int) {
	p.mu.Lock()
	p.dirty = names
	p.mu.Unlock()
}

func (p *liveStatus) dirtyNames() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dirty
}

// unacknowledged counts the types with a response that the proxy has not answered.
func (p *liveStatus) unacknowledged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, t := range p.status.Types {
		if t.Unacknowledged {
			n++
		}
	}
	return n
}

// refused notes a NACK of some resources.
func (p *liveStatus) refused(sub *subscription, resources []string, message string) {
	short := shortType(sub.typeURL)
	p.mu.Lock()
	defer p.mu.Unlock()
	refusing := p.refusing[short]
	for _, name := range resources {
		refusing.add(name)
	}
	p.refusing[short] = refusing
	resources = resources[:min(len(resources), namesInNACK)]
	p.status.NACKs[short] = NACK{Time: time.Now(), Count: p.status.NACKs[short].Count + 1, Resources: resources, Error: message}
}

// accepted notes that the response in flight is accepted.
func (p *liveStatus) accepted(sub *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	short := shortType(sub.typeURL)
	refusing := p.refusing[short]
	if len(refusing) == 0 {
		return
	}
	for _, name := range sub.namesInFlight() {
		delete(refusing, name)
	}
	if nack := p.status.NACKs[short]; len(refusing) == 0 {
		nack.Over = new(time.Now())
		p.status.NACKs[short] = nack
	}
}

func (p *liveStatus) snapshot() ProxyStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.status
	out.Types = maps.Clone(out.Types)
	out.NACKs = maps.Clone(out.NACKs)
	return out
}

// shortType is the last word of a type URL, as "Cluster" or "ClusterLoadAssignment".
func shortType(typeURL string) string {
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
