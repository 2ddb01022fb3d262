package translate

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A sidecar judges a connection when the connection is made, and callers keep connections for as long as they can. When
// policies change, the metadata of the Service's clusters changes, so that callers connect again. Running requests finish.

// Reconnect makes Build change the clusters of Services whose policies have changed, see Result.Reconnect.
func (t *Translator) Reconnect(services ...mesh.Key) {
	t.reconnectPending.Delete(services...)
	for _, key := range services {
		if t.services[key] != nil {
			t.hold(key)
		}
	}
}

// policiesBehind returns the hashes of the policies of a Service's pods. Until Reconnect, it returns the published ones.
func (t *Translator) policiesBehind(service mesh.Key) string {
	if t.reconnectPending.Has(service) {
		if published := t.services[service]; published != nil {
			return published.model.Policies
		}
		return "" // so that Reconnect changes it
	}
	hashes := sets.Set[string]{}
	for _, key := range t.depend.refs[service].pods {
		if pod := t.pods.Get(key); pod != nil && t.inbounds.policies[podID(pod)] != "" {
			hashes.Insert(t.inbounds.policies[podID(pod)])
		}
	}
	return strings.Join(sets.List(hashes), " ")
}
