package server

import (
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// warmingTimeout bounds the wait for a proxy to ask for and acknowledge the endpoints of clusters that it was sent. After
// it, what refers to those clusters is sent anyway.
const warmingTimeout = 5 * time.Second

// warming knows which clusters of a proxy cannot be used yet. Envoy uses a cluster when it has the cluster's endpoints;
// until then the cluster warms.
type warming struct {
	// endpoints of clusters that the proxy was sent, until it acknowledges the endpoints. The value is the number of the
	// response with the cluster: only endpoints that were sent after it count.
	endpoints map[string]uint64
	// timer ends the wait for endpoints.
	timer *time.Timer
	// unacked are the clusters in the response that the proxy has not acknowledged yet.
	unacked set
	// cold are endpoints of clusters that the proxy held when it came back, until it says that it holds the endpoints too.
	cold set
}

func newWarming() warming {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return warming{endpoints: map[string]uint64{}, timer: timer}
}

// active reports whether the proxy still warms a cluster that it was sent.
func (w *warming) active() bool { return len(w.endpoints) > 0 }

// upTo reports whether a cluster warms that was sent with a response up to a number.
func (w *warming) upTo(number uint64) bool {
	for _, n := range w.endpoints {
		if n <= number {
			return true
		}
	}
	return false
}

// usable reports whether a cluster that the proxy was sent is acknowledged and warm.
func (w *warming) usable(cluster *entry) bool {
	if w.unacked.has(cluster.name) {
		return false
	}
	for _, endpoints := range cluster.references {
		if _, warming := w.endpoints[endpoints.Name]; warming || w.cold.has(endpoints.Name) {
			return false
		}
	}
	return true
}

// sent notes clusters that a response carries. The wait is bounded from its beginning: further clusters do not prolong
// it.
func (w *warming) sent(clusters []*entry, number uint64) {
	waiting := w.active()
	for _, e := range clusters {
		w.unacked.add(e.name)
		for _, endpoints := range e.references {
			w.endpoints[endpoints.Name] = number
		}
	}
	if !waiting && w.active() {
		w.timer.Reset(warmingTimeout)
	}
}

// clustersAnswered notes the proxy's answer to its clusters.
func (w *warming) clustersAnswered() { w.unacked = nil }

// endpointsAnswered notes the proxy's answer to endpoints, before the subscription forgets what it sent.
func (w *warming) endpointsAnswered(eds *subscription) {
	for _, e := range eds.inFlight {
		w.warmed(e.name, eds.number)
	}
	for _, name := range eds.inFlightGone {
		w.warmed(name, eds.number)
	}
	if !w.active() {
		w.timer.Stop()
	}
}

func (w *warming) warmed(endpoints string, number uint64) {
	w.cold.remove(endpoints)
	if number > w.endpoints[endpoints] {
		delete(w.endpoints, endpoints)
	}
}

// brought notes what a proxy brings along from an earlier stream. That stream may have ended between a cluster and its
// endpoints, and then the cluster is not warm. e is nil if the resource does not exist any more.
func (w *warming) brought(typeURL, name string, e *entry) {
	switch {
	case typeURL == envoy.EndpointType:
		w.cold.remove(name)
	case typeURL == envoy.ClusterType && e != nil:
		for _, endpoints := range e.references {
			w.cold.add(endpoints.Name)
		}
	}
}

// resumed ends the wait for a proxy to say which endpoints it holds.
func (w *warming) resumed() { w.cold = nil }

// resend has endpoints answered once more if their cluster warms and the proxy asked for them before it was sent the
// cluster. Envoy does not ask again for a name that it already watches, but a new or changed cluster waits for an
// answer, and so does the acknowledgement of the clusters.
func (w *warming) resend(eds *subscription) {
	if eds == nil {
		return
	}
	for name, number := range w.endpoints {
		if eds.wants(name) && !eds.sentSince(number, name) {
			eds.askAgain(name)
		}
	}
}

// giveUp ends the wait for all clusters.
func (w *warming) giveUp() {
	clear(w.endpoints)
	w.unacked = nil
}
