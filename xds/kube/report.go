package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Reporter says what Mizzen works around in users' objects: in the log, in a metric, and in an event
// on the object, once for as long as the problem lasts.
type Reporter struct {
	log    logr.Logger
	events *Events
	// isLeader: one replica writes the events, so that each is written once.
	isLeader func() bool
	gauge    *prometheus.GaugeVec

	mu      sync.Mutex
	current map[mesh.ID][]mesh.Problem
	// sidecars counts the streams of each sidecar that has something to say of its node.
	sidecars map[mesh.ID]int
}

// NewReporter gives a reporter whose metric mizzen_object_problems is registered with r.
func NewReporter(log logr.Logger, events *Events, isLeader func() bool, r prometheus.Registerer) *Reporter {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mizzen_object_problems",
		Help: "Current problems in Services, EndpointSlices, pods and namespaces that Mizzen works around, by reason.",
	}, []string{"reason"})
	r.MustRegister(gauge)
	return &Reporter{log: log, events: events, isLeader: isLeader, gauge: gauge, current: map[mesh.ID][]mesh.Problem{}, sidecars: map[mesh.ID]int{}}
}

// Report takes all problems that one object has now, a Service with its EndpointSlices.
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

// Problems lists what there is now, by object.
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

// ServeHTTP gives Problems as JSON.
func (r *Reporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(r.Problems()) // the client is gone: nobody to tell
}

// Lead writes the events of all problems there are: to be called when this replica has become the
// leader, since what it found before was another's to tell.
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
		object.Namespace = p.Object.Name // else its events lie in "default", where nobody looks
	}
	r.events.Warn(object, p.Reason, "Translate", p.Field, p.Value, p.String())
}
