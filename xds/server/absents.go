package server

import (
	"time"

	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// absents answers for names that do not exist. The protocol's word for that is "removed", but Envoy takes "removed"
// for no answer where it waits for routes or for a cluster, and the call would go on waiting. So Envoy gets routes that
// answer 503, or a cluster without endpoints. It keeps them, so their number is bounded: a client may ask for any name.
type absents struct {
	log logr.Logger
	// ids that were answered in this way. A destination and its TCP cluster have the same name.
	ids map[envoy.ID]struct{}
}

// answer returns what a proxy is told of a name that does not exist; nil means "removed". scoped is true if the proxy
// learns of routes from scopes.
func (a *absents) answer(sub *subscription, name string, scoped bool) *entry {
	var r envoy.Resource
	switch {
	case sub.typeURL == envoy.RouteType && scoped:
		r = envoy.NoService(name)
	case sub.typeURL == envoy.ClusterType && sub.all && sub.names.has(name):
		r = envoy.NoEndpoints(name)
	default:
		return nil
	}
	if _, has := a.ids[r.ID()]; !has && len(a.ids) >= maxAbsent {
		return nil
	}
	a.ids[r.ID()] = struct{}{}
	e, err := newEntry(r, time.Time{})
	if err != nil { // the name is not UTF-8, which gRPC would not have let through
		a.log.Error(err, "a name that cannot be answered")
		return nil
	}
	return e
}

// forget makes room: the resource exists now, or the proxy does not ask for it any more.
func (a *absents) forget(id envoy.ID) { delete(a.ids, id) }
