package ctl

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// plainView is the result of plaintext, and the format of -o json and yaml.
type plainView struct {
	Namespaces []strictView     `json:"namespaces"`
	Callers    []plainCallsView `json:"callers,omitempty"`
	// Uncaptured are ports that are not captured: sidecars see no callers there, and strict has no effect.
	Uncaptured []workloadView `json:"uncaptured,omitempty"`
	// WithoutIdentity are workloads whose sidecars have no identity, and thus no mTLS.
	WithoutIdentity []workloadView `json:"withoutIdentity,omitempty"`
	Unanswered      []missingView  `json:"unanswered,omitempty"`
	Notes           []string       `json:"notes,omitempty"`
}

// strictView says whether strict mTLS would refuse callers in a namespace.
type strictView struct {
	Namespace string  `json:"namespace"`
	Strict    verdict `json:"strict"`
	// Pods is the number of pods with an identity, and Asked the number of those that answered. Blind pods have a
	// sidecar without identity, which reports no callers.
	Pods  int `json:"pods"`
	Asked int `json:"asked"`
	Blind int `json:"blind,omitempty"`
	// Refused are groups of callers that strict would refuse, and Already those that it already refuses.
	Refused int `json:"refused"`
	Already int `json:"already,omitempty"`
	// Since is the start of the youngest agent, or the time of --since.
	Since *time.Time `json:"since,omitempty"`
	// Looked is the time in seconds for which the youngest agent has watched, and Wanted the time that strict needs to
	// count as safe.
	Looked int64 `json:"lookedSeconds,omitempty"`
	Wanted int64 `json:"wantedSeconds,omitempty"`
	// Open are older connections in plain text to strict ports.
	Open uint64 `json:"open,omitempty"`
	// Forgotten is the number of callers that agents had to drop.
	Forgotten uint64 `json:"forgotten,omitempty"`
}

type verdict string

const (
	strictSafe    verdict = "safe"
	strictUnsafe  verdict = "unsafe"
	strictUnknown verdict = "unknown"
)

// plainCallsView are calls of one workload, node or place to one port of a workload.
type plainCallsView struct {
	To   plainTarget `json:"to"`
	From plainSource `json:"from"`
	// Connections, or Requests where sidecars read HTTP.
	Connections uint64 `json:"connections,omitempty"`
	Requests    uint64 `json:"requests,omitempty"`
	// Open is the number of open connections.
	Open  uint64    `json:"open,omitempty"`
	First time.Time `json:"firstSeen"`
	Last  time.Time `json:"lastSeen"`
}

type plainTarget struct {
	Namespace string          `json:"namespace"`
	Workload  string          `json:"workload"`
	Pods      []string        `json:"pods"`
	Port      uint16          `json:"port"`
	Mode      config.MTLSMode `json:"mode"`
}

type plainSource struct {
	Kind      callerKind `json:"kind"`
	Namespace string     `json:"namespace,omitempty"`
	Workload  string     `json:"workload,omitempty"`
	// Names of pods or nodes, or addresses.
	Names  []string `json:"names"`
	Reason string   `json:"reason"`
}

type workloadView struct {
	Namespace string   `json:"namespace"`
	Workload  string   `json:"workload"`
	Pods      []string `json:"pods"`
	Ports     []uint16 `json:"ports,omitempty"`
}

type missingView struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Problem   string `json:"problem"`
}

// look has the options for agents' answers: callers last seen before after are left out, and agents must have watched
// for atLeast.
type look struct {
	after, now time.Time
	atLeast    time.Duration
}

// plain builds the view from the agents' answers.
func (i *inventory) plain(pods []*podInfo, said map[mesh.Key]heard, l look) plainView {
	v := plainView{Namespaces: []strictView{}, Notes: i.notes}
	namespaces, groups := map[string]*strictView{}, map[groupKey]*plainCallsView{}
	uncaptured, old := workloads{}, workloads{}
	for _, p := range pods {
		ns := namespaces[p.Namespace]
		if ns == nil {
			ns = &strictView{Namespace: p.Namespace}
			namespaces[p.Namespace] = ns
		}
		if !p.Meshed {
			ns.Blind++
			old.add(p, nil)
			continue
		}
		ns.Pods++
		if ports := p.uncaptured(); len(ports) > 0 {
			uncaptured.add(p, ports)
		}
		h, asked := said[p.Key]
		switch {
		case !asked:
			v.Unanswered = append(v.Unanswered, missingView{p.Namespace, p.Name, "not asked, because it is not running"})
		case h.err != nil:
			v.Unanswered = append(v.Unanswered, missingView{p.Namespace, p.Name, h.err.Error()})
		default:
			ns.hear(h, l)
			i.groupCallers(groups, p, h, l.after)
		}
	}
	v.Callers = sortedGroups(groups)
	for _, c := range v.Callers {
		if c.To.Mode == config.Strict {
			namespaces[c.To.Namespace].Already++
			namespaces[c.To.Namespace].Open += c.Open
		} else {
			namespaces[c.To.Namespace].Refused++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		v.Namespaces = append(v.Namespaces, namespaces[name].judge())
	}
	v.Uncaptured, v.WithoutIdentity = uncaptured.sorted(), old.sorted()
	return v
}

func (s *strictView) hear(h heard, l look) {
	s.Asked++
	s.Forgotten += h.Forgotten
	s.Wanted = int64(l.atLeast.Seconds())
	since := h.Since.UTC()
	if looked := int64(l.now.Sub(since).Seconds()); s.Asked == 1 || looked < s.Looked {
		s.Looked = looked
	}
	if l.after.After(since) {
		since = l.after.UTC()
	}
	if s.Since == nil || since.After(*s.Since) {
		s.Since = &since
	}
}

// judge returns not safe if there is a caller. It returns safe only if all agents have answered completely and have
// watched long enough.
func (s *strictView) judge() strictView {
	switch {
	case s.Refused > 0 || s.Open > 0:
		s.Strict = strictUnsafe
	case s.Asked < s.Pods || s.Blind > 0 || s.Forgotten > 0 || s.Looked < s.Wanted:
		s.Strict = strictUnknown
	default:
		s.Strict = strictSafe
	}
	return *s
}

type groupKey struct {
	namespace, workload string
	port                uint16
	mode                config.MTLSMode
	caller              string
}

func (i *inventory) groupCallers(groups map[groupKey]*plainCallsView, p *podInfo, h heard, after time.Time) {
	modes := i.modesOf(p)
	for _, seen := range h.Callers {
		if seen.Last.Before(after) && seen.Live == 0 {
			continue
		}
		from := i.caller(seen, p)
		mode, _ := modes.at(seen.Port)
		key := groupKey{p.Namespace, p.workload, seen.Port, mode, from.group()}
		g := groups[key]
		if g == nil {
			g = &plainCallsView{
				To:    plainTarget{Namespace: p.Namespace, Workload: p.workload, Port: seen.Port, Mode: mode},
				From:  plainSource{Kind: from.kind, Namespace: from.namespace, Workload: from.workload, Reason: from.reason},
				First: seen.First.UTC(), Last: seen.Last.UTC(),
			}
			groups[key] = g
		}
		g.To.Pods, g.From.Names = insert(g.To.Pods, p.Name), insert(g.From.Names, from.name)
		g.Connections += seen.Connections
		g.Requests += seen.Requests
		g.Open += seen.Live
		if seen.First.Before(g.First) {
			g.First = seen.First.UTC()
		}
		if seen.Last.After(g.Last) {
			g.Last = seen.Last.UTC()
		}
	}
}

// insert adds to a sorted list without duplicates.
func insert(list []string, name string) []string {
	at, found := slices.BinarySearch(list, name)
	if found {
		return list
	}
	return slices.Insert(list, at, name)
}

func sortedGroups(groups map[groupKey]*plainCallsView) []plainCallsView {
	var out []plainCallsView
	for _, key := range slices.SortedFunc(maps.Keys(groups), groupKey.compare) {
		out = append(out, *groups[key])
	}
	return out
}

func (k groupKey) compare(o groupKey) int {
	return cmp.Or(
		cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.workload, o.workload), cmp.Compare(k.port, o.port),
		cmp.Compare(k.mode, o.mode), cmp.Compare(k.caller, o.caller),
	)
}

// workloads groups pods by their workload.
type workloads map[[2]string]*workloadView

func (w workloads) add(p *podInfo, ports []uint16) {
	key := [2]string{p.Namespace, p.workload}
	if w[key] == nil {
		w[key] = &workloadView{Namespace: p.Namespace, Workload: p.workload}
	}
	w[key].Pods = insert(w[key].Pods, p.Name)
	w[key].Ports = append(w[key].Ports, ports...)
}

func (w workloads) sorted() []workloadView {
	var out []workloadView
	for _, key := range slices.SortedFunc(maps.Keys(w), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }) {
		slices.Sort(w[key].Ports)
		w[key].Ports = slices.Compact(w[key].Ports)
		out = append(out, *w[key])
	}
	return out
}
