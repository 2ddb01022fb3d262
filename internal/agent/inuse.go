package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/mizzen-mesh/mizzen/internal/agent/ends"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// InUse asks the Envoy of an agent with this directory.
func InUse(dir string) ends.Envoy { return newAdminClient((&Settings{Dir: dir}).adminSocket()) }

// ListenerUpdates is the number of updates that Envoy has taken. Its lds.version stays the same over delta xDS.
func (c *adminClient) ListenerUpdates(ctx context.Context) (uint64, error) {
	const name = "listener_manager.lds.update_success"
	values, err := c.stats(ctx, `^listener_manager\.lds\.update_success$`)
	if err != nil {
		return 0, err
	}
	updates, ok := values[name]
	if !ok {
		return 0, fmt.Errorf("/stats: no %s", name)
	}
	return updates, nil
}

// maxDump bounds what is read of Envoy's answer: a listener that says so much of so many ports and policies is some hundred kB.
const maxDump = 64 << 20

// Admission reads it from the inbound listener.
func (c *adminClient) Admission(ctx context.Context) (a *sds.Admission, settled bool, err error) {
	res, err := c.open(ctx, http.MethodGet, "/config_dump?resource=dynamic_listeners&name_regex=^"+inboundListener+"$")
	if err != nil {
		return nil, false, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("/config_dump: %s", res.Status)
	}
	return readAdmission(io.LimitReader(res.Body, maxDump))
}

// inboundListener is what the control plane calls it.
const inboundListener = "inbound"

// readAdmission takes what is in use. While another listener warms, that is on its way.
func readAdmission(r io.Reader) (a *sds.Admission, settled bool, err error) {
	type state struct {
		Listener struct {
			FilterChains []struct {
				Name     string `json:"name"`
				Metadata struct {
					Of map[string]json.RawMessage `json:"filter_metadata"`
				} `json:"metadata"`
			} `json:"filter_chains"`
		} `json:"listener"`
	}
	var dump struct {
		Configs []struct {
			Name    string          `json:"name"`
			Active  *state          `json:"active_state"`
			Warming json.RawMessage `json:"warming_state"`
		} `json:"configs"`
	}
	if err := json.NewDecoder(r).Decode(&dump); err != nil {
		return nil, false, fmt.Errorf("/config_dump: %w", err)
	}
	for _, l := range dump.Configs {
		if l.Name != inboundListener || l.Active == nil {
			continue
		}
		for _, chain := range l.Active.Listener.FilterChains {
			if raw, ok := chain.Metadata.Of[sds.AdmissionMetadata]; ok && chain.Name == sds.AdmissionChain {
				a = &sds.Admission{}
				if err := json.Unmarshal(raw, a); err != nil {
					return nil, false, fmt.Errorf("the inbound listener's %s: %w", sds.AdmissionMetadata, err)
				}
			}
		}
		return a, l.Warming == nil, nil
	}
	return nil, false, nil
}
