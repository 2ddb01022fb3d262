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
	// Reconnect is how long sidecars have to take new policies before callers connect anew. A sidecar that takes longer
	// goes on judging the connections that it has by the old ones.
	Reconnect time.Duration
}

// DefaultHoldOff is used where Options has none.
var DefaultHoldOff = HoldOff{Quiet: 50 * time.Millisecond, Max: 500 * time.Millisecond, Reconnect: 5 * time.Second}

// Options of a Controller.
type Options struct {
	Source *kube.Source
	Store  *server.Store
	Config *config.Mesh
	Log    logr.Logger
	// Report is called with the problems that an object has now, none when they are gone.
	Report func(mesh.ID, []mesh.Problem)
	// Statuses takes what the statuses of routes and policies shall say.
	Statuses Statuses
	// Registerer for metrics; nil for none.
	Registerer prometheus.Registerer
	// HoldOff is DefaultHoldOff if it is zero.
	HoldOff HoldOff
}

// Statuses takes what the statuses of routes and policies shall say; status.Writer writes them.
type Statuses interface {
	// Set takes, by Service, what is said of all objects that name it, in place of what was said before.
	Set(map[mesh.Key][]mesh.Status)
	// SetWhole takes what is said of objects as a whole; Forget says no more of one.
	SetWhole([]mesh.Status)
	Forget(mesh.ID)
	// Written tells that somebody has changed the status of an object.
	Written(mesh.ID)
}
