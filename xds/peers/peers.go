// Package peers asks the other replicas of the control plane what the pods of a workload use, so that
// a new pod has it from the start whichever replica it comes to. It is a hint: a replica that does not
// answer in time is left out. It may import xds/envoy, internal/replicas and the standard library.
package peers

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/replicas"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Path is where a replica answers, with the parameter "workload" (server.Server.Usage).
const Path = "/debug/usage"

// timeout bounds what a pod's start may lose by it.
const timeout = 200 * time.Millisecond

// Peers are the other replicas.
type Peers struct{ *replicas.Replicas }

// Used gives what they know of a workload, "<namespace>/<kind>/<name>".
func (p *Peers) Used(ctx context.Context, workload string) []envoy.ID {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers, _ := replicas.Ask[[]envoy.ID](ctx, p.Replicas, Path, url.Values{"workload": {workload}})
	return slices.Concat(answers...)
}
