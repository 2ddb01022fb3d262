package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"google.golang.org/grpc"
)

// kind is what the agent of a sidecar and that of a gateway do differently. All else is the same: they start and watch Envoy,
// keep its identity, and tell whether it is ready.
type kind interface {
	// name is what the agent calls itself when it speaks to people.
	name() string
	// listen waits for what must be there before Envoy starts, completes the node, and returns the listener of the agent's HTTP
	// server. It returns nil without an error if ctx ends.
	listen(ctx context.Context, s *Settings, log *slog.Logger) (net.Listener, error)
	// identityParts makes the parts for a mesh with identities: what Envoy asks or tells the agent over the socket of its secrets, and what
	// runs beside the identity.
	identityParts(a *agent) (register func(grpc.ServiceRegistrar), run []func(context.Context), err error)
	// pages adds those of the agent's HTTP server.
	pages(a *agent, mux *http.ServeMux)
	// drain returns when Envoy may end, also after the end of ctx.
	drain(ctx context.Context, a *agent, envoy *envoyProcess)
	// runtime has the keys of Envoy's runtime beside those of every Envoy.
	runtime() object
	overloadManager(s Settings) object
	// statistics to keep: prefixes of their names, and regular expressions for whole names.
	statistics() (prefixes, patterns []string)
}

// kind returns what the settings ask for.
func (s *Settings) kind() kind {
	if s.Gateway {
		return gateway{}
	}
	return sidecar{}
}
