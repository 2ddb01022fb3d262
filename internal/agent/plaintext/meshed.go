package plaintext

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
)

// meshed are callers with mTLS of the mesh. Policies judge a connection when it begins; one that goes on for ever is judged
// here again each minute that Envoy tells of it, so that a dry run does not miss it.
type meshed struct {
	callers *Callers
	// refused counts by caller, port and policy; known bounds its series.
	refused *prometheus.CounterVec
	known   map[[3]string]bool
	would   map[refusedKey]*agentapi.Refusal
	sentOn  *redirects
}

type refusedKey struct {
	key
	policy string
}

// maxRefused bounds the series of the metric; those that come later have otherCaller in the place of the name.
const (
	maxRefused  = 256
	otherCaller = "other"
)

func newMeshed(o Options, since time.Time, heard chan struct{}, sentOn *redirects) *meshed {
	m := &meshed{
		callers: &Callers{now: o.Now, since: since, seen: map[key]*agentapi.Caller{}, ports: map[uint16]bool{}, live: live{}, heard: heard},
		known:   map[[3]string]bool{},
		would:   map[refusedKey]*agentapi.Refusal{},
		sentOn:  sentOn,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_dry_run_refusals_total",
			Help: "Connections (requests where the sidecar reads HTTP) that policies in dry run would refuse, by caller, port and the Deny that " +
				"matches. Each is counted once a minute while it lasts, and once at its end. The caller is empty without mTLS.",
		}, []string{"caller", "port", "policy"}),
	}
	o.Registerer.MustRegister(m.refused)
	return m
}

func (m *meshed) read(message *accesslogv3.StreamAccessLogsMessage) {
	for _, e := range message.GetTcpLogs().GetLogEntry() {
		if m.saw(e.GetCommonProperties()) {
			m.judged(e.GetCommonProperties())
		}
	}
	for _, e := range message.GetHttpLogs().GetLogEntry() { // what would be refused of them comes as such
		m.saw(e.GetCommonProperties())
	}
}

func (m *meshed) saw(e *accessdatav3.AccessLogCommon) bool {
	kind, news := kinds[e.GetAccessLogType()]
	from, to, ok := ends(e)
	id := peerID(e)
	if !news || !ok || id == "" {
		return false
	}
	m.callers.saw(from, to, id, kind)
	return true
}

// readRequests reads those that would be refused.
func (m *meshed) readRequests(message *accesslogv3.StreamAccessLogsMessage) {
	for _, e := range message.GetHttpLogs().GetLogEntry() {
		m.judged(e.GetCommonProperties())
	}
}

// judged enters what would be refused.
func (m *meshed) judged(e *accessdatav3.AccessLogCommon) {
	policy, would := wouldRefuse(e)
	from, to, ok := ends(e)
	if !would || !ok {
		return
	}
	id := peerID(e)
	at := refusedKey{key{id: id, port: to.Port()}, policy}
	if id == "" {
		at.source = from.Addr()
	}
	if m.sentOn.judged(at.key) {
		return
	}
	m.callers.mu.Lock()
	defer m.callers.mu.Unlock()
	r := m.would[at]
	if r == nil && len(m.would) < agentapi.MaxCallers {
		r = &agentapi.Refusal{ID: id, Source: at.source, Port: at.port, Policy: policy}
		m.would[at] = r
	}
	if r == nil {
		m.callers.forgotten++
	} else {
		r.Count, r.Last = r.Count+1, m.callers.now()
	}
	labels := [3]string{id, m.callers.portLabel(to.Port()), policy}
	if !m.known[labels] && len(m.known) == maxRefused {
		labels = [3]string{otherCaller, otherPort, ""}
	} else {
		m.known[labels] = true
	}
	m.refused.WithLabelValues(labels[:]...).Inc()
}

// refusals are what is remembered of them, in order.
func (m *meshed) refusals() []agentapi.Refusal {
	m.callers.mu.Lock()
	defer m.callers.mu.Unlock()
	var out []agentapi.Refusal
	for _, r := range m.would {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b agentapi.Refusal) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.Source.Compare(b.Source), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Policy, b.Policy))
	})
	return out
}

func ends(e *accessdatav3.AccessLogCommon) (from, to netip.AddrPort, ok bool) {
	from, known := addrPort(e.GetDownstreamDirectRemoteAddress())
	to, ok = addrPort(e.GetDownstreamLocalAddress())
	return from, to, ok && known
}

func peerID(e *accessdatav3.AccessLogCommon) string {
	names := e.GetTlsProperties().GetPeerCertificateProperties().GetSubjectAltName()
	i := slices.IndexFunc(names, func(n *accessdatav3.TLSProperties_CertificateProperties_SubjectAltName) bool { return n.GetUri() != "" })
	if i < 0 {
		return ""
	}
	return names[i].GetUri()
}

// wouldRefuse reads what Envoy's filters have decided in dry run (xds/envoy/rbac_filter.go): a Deny that matches wins, and
// has a name.
func wouldRefuse(e *accessdatav3.AccessLogCommon) (policy string, would bool) {
	all := e.GetMetadata().GetFilterMetadata()
	decided := all["envoy.filters.network.rbac"].GetFields()
	if http := all["envoy.filters.http.rbac"]; http != nil {
		decided = http.GetFields()
	}
	text := func(key string) string {
		if v, ok := decided[key].GetKind().(*structpb.Value_StringValue); ok {
			return v.StringValue
		}
		return ""
	}
	switch {
	case text("deny.shadow_engine_result") == "denied":
		return text("deny.shadow_effective_policy_id"), true
	case text("allow.shadow_engine_result") == "denied":
		return "", true
	}
	return "", false
}
