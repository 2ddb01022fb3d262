package kube

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Reporter reports the problems in users' objects that Mizzen works around: in the log, in a metric, and in an event on
// the object. It reports a problem once, however long the problem lasts.
type Reporter struct {
	log    logr.Logger
	events *Events
	// isLeader reports whether this replica writes the events. Only the leader does, so that each is written once.
	isLeader func() bool
	gauge    *prometheus.GaugeVec

	mu      sync.Mutex
	current map[mesh.ID][]mesh.Problem
	// sidecars counts the streams of each sidecar that reports a problem of its node.
	sidecars map[mesh.ID]int
}

// NewReporter returns a reporter whose metric mizzen_object_problems is registered with r.
func NewReporter(log logr.Logger, events *Events, isLeader func() bool, r prometheus.Registerer) *Reporter {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mizzen_object_problems",
		Help: "Current problems in Services, EndpointSlices, pods and namespaces that Mizzen works around, by reason.",
	}, []string{"reason"})
	r.MustRegister(gauge)
	return &Reporter{log: log, events: events, isLeader: isLeader, gauge: gauge, current: map[mesh.ID][]mesh.Problem{}, sidecars: map[mesh.ID]int{}}
}

// Report takes all problems that one object has now. Those of EndpointSlices belong to their Service.
func (r *Reporter) Report(about mesh.ID, problems []mesh.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report(about, problems)
}

func (r *Reporter) report(about mesh.ID, problems []mesh.Problem) {
	before := r.current[about]
	for _, p := range before {
		r.gauge.WithLabelValues(p.Reason).Dec()
	}
	for _, p := range problems {
		r.gauge.WithLabelValues(p.Reason).Inc()
		if !slices.Contains(before, p) {
			r.log.Info("working around a problem", "reason", p.Reason, "problem", p.String())
			if r.isLeader() || about.Kind == kindSidecar {
				r.event(p)
			}
		}
	}
	if len(problems) == 0 {
		delete(r.current, about)
	} else {
		r.current[about] = problems
	}
}

// Problems returns the current problems, by object.
func (r *Reporter) Problems() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string][]string{}
	for about, problems := range r.current {
		for _, p := range problems {
			out[about.String()] = append(out[about.String()], p.String())
		}
	}
	return out
}

// ServeHTTP serves Problems as JSON.
func (r *Reporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_ = httpjson.WriteIndented(w, r.Problems())
}

// Lead writes the events of all current problems. It is called when this replica becomes the leader. Until then it left
// these events to another.
func (r *Reporter) Lead(context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for about, problems := range r.current {
		if about.Kind == kindSidecar {
			continue
		}
		for _, p := range problems {
			r.event(p)
		}
	}
}

func (r *Reporter) event(p mesh.Problem) {
	object := corev1.ObjectReference{APIVersion: "v1", Kind: string(p.Object.Kind), Namespace: p.Object.Namespace, Name: p.Object.Name, UID: types.UID(p.UID)}
	switch p.Object.Kind {
	case mesh.KindEndpointSlice:
		object.APIVersion = discoveryv1.SchemeGroupVersion.String()
	case mesh.KindNamespace:
		object.Namespace = p.Object.Name // otherwise its events go to "default", where nobody looks
	}
	r.events.Warn(object, p.Reason, "Translate", p.Field, p.Value, p.String())
}
