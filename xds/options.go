package xds

import (
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// HoldOff bounds how long changed Services wait for further changes, so that many changes at once are published as one. What is
// urgent does not wait (translate.Translator.Urgent).
type HoldOff struct {
	// Quiet is the time after the last change, and Max the time after the first.
	Quiet, Max time.Duration
	// Reconnect is how long sidecars have to take new policies before callers connect again. A sidecar that takes longer
	// keeps judging its connections by the old policies.
	Reconnect time.Duration
	// EndpointSlices is how long a Service whose ports have new names stays as it is until its EndpointSlices have them, too.
	EndpointSlices time.Duration
}

// DefaultHoldOff is used where Options has none.
var DefaultHoldOff = HoldOff{Quiet: 50 * time.Millisecond, Max: 500 * time.Millisecond, Reconnect: 5 * time.Second, EndpointSlices: 5 * time.Second}

// Options of a Controller.
type Options struct {
	Source *kube.Source
	Store  *server.Store
	Config *config.Mesh
	Log    logr.Logger
	// Report is called with all current problems of an object, and with none when they are gone.
	Report func(mesh.ID, []mesh.Problem)
	// GatewayPorts is called with translate.Result.GatewayPorts. It must not block. Optional.
	GatewayPorts func(map[mesh.Key][]mesh.GatewayPort)
	// Statuses takes the wanted statuses of routes and policies.
	Statuses Statuses
	// Registerer for metrics. Optional.
	Registerer prometheus.Registerer
	// HoldOff is DefaultHoldOff if it is zero.
	HoldOff HoldOff
}

// Statuses takes the wanted statuses of routes and policies. status.Writer writes them.
type Statuses interface {
	// Set replaces, for each of these Services and Gateways, the wanted statuses of all objects that name it.
	Set(map[mesh.ID][]mesh.Status)
	// SetWhole replaces the wanted statuses of objects that name no Service; Forget drops that of one.
	SetWhole([]mesh.Status)
	Forget(mesh.ID)
	// Written says that the status of an object was changed, by us or by another writer.
	Written(mesh.ID)
}
