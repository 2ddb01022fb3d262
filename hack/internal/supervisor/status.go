package supervisor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/components"
	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// Spec is what the supervisor is told, in a file: what it needs must not
// depend on what happens to the checkout while it runs.
type Spec struct {
	Layout     layout.Layout
	Network    layout.Network
	Tools      map[string]string  // for comparison only
	Version    components.Version // likewise
	PATH       string
	Components []components.Component
}

// SpecFile and StatusFile are where a cluster's supervisor reads and writes.
func SpecFile(l layout.Layout) string   { return l.State("supervisor.json") }
func StatusFile(l layout.Layout) string { return l.State("status.json") }

// Status is what the supervisor tells.
type Status struct {
	Supervisor proc.ID
	Components []ComponentStatus
}

// ComponentStatus is one component's part of it.
type ComponentStatus struct {
	Name     string
	PID      int `json:",omitempty"` // 0 while it does not run
	Started  time.Time
	Restarts int
	Ready    bool   // has been ready since its last start
	LastExit string `json:",omitempty"`
}

// ReadJSON reads one of the files above.
func ReadJSON[T any](path string) (T, error) {
	var v T
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	return v, err
}

// WriteJSON replaces one of them in one step: a reader never sees half a file.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
