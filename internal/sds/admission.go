package sds

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// How an agent learns which connections to its pod are not to live any more. The control plane writes an Admission beside
// the inbound listener, into the metadata of the filter chain AdmissionChain, under AdmissionMetadata. Envoy shows it to the
// agent (/config_dump) with what else it has taken into use. It stands in a chain in which no connection lives, because
// Envoy makes a chain anew that changes, and a listener of which something else than chains does.
const (
	AdmissionChain    = "refuse"
	AdmissionMetadata = "mizzen.dev/admission"
)

// Admission says who may have a connection to the pod, whatever he asks over it.
type Admission struct {
	// DrainTime is how long HTTP that is under way goes on over a connection that is not to live.
	DrainTime string `json:"drainTime"`
	// Ports has those of which something of their own is said, and under 0 what is said of all others.
	Ports map[uint16]PortAdmission `json:"ports"`
}

// PortAdmission is for one port.
type PortAdmission struct {
	// Plain is that callers in plain text are let in.
	Plain bool `json:"plain"`
	// Deny and Allow are SPIFFE IDs of callers with mTLS, or with a slash at their end what IDs begin with. Without Allow (null) all are
	// let in that are not denied.
	Deny  []string `json:"deny,omitempty"`
	Allow []string `json:"allow"`
}

// Admits says whether a caller may have a connection to the port. The ID is empty in plain text.
func (a Admission) Admits(port uint16, id string) bool {
	at, own := a.Ports[port]
	if !own {
		at = a.Ports[0]
	}
	if id == "" {
		return at.Plain
	}
	among := func(ids []string) bool {
		return slices.ContainsFunc(ids, func(known string) bool {
			return id == known || strings.HasSuffix(known, "/") && strings.HasPrefix(id, known)
		})
	}
	return !among(at.Deny) && (at.Allow == nil || among(at.Allow))
}

// Drain reads DrainTime.
func (a Admission) Drain() time.Duration {
	d, _ := time.ParseDuration(a.DrainTime)
	return d
}

// Metadata is what the control plane writes.
func (a Admission) Metadata() *corev3.Metadata {
	s := &structpb.Struct{}
	b, err := json.Marshal(a)
	if err == nil {
		err = protojson.Unmarshal(b, s)
	}
	if err != nil {
		panic(err) // strings and numbers
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{AdmissionMetadata: s}}
}
