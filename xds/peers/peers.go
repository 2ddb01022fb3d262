// Package peers asks the other replicas of the control plane what the pods of a workload use, so that
// a new pod has it from the start whichever replica it comes to. It is a hint: a replica that does not
// answer in time is left out. It may import xds/envoy and the standard library.
package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Path is where a replica answers, with the parameter "workload" (server.Server.Debug).
const Path = "/debug/usage"

const (
	// timeout bounds what a pod's start may lose by it.
	timeout = 200 * time.Millisecond
	// maxAnswer is the size of an answer in bytes.
	maxAnswer = 1 << 20
)

// client goes to a replica itself, whatever proxy the environment names.
var client = &http.Client{Transport: &http.Transport{IdleConnTimeout: time.Minute}}

// Peers are the other replicas.
type Peers struct {
	// List gives their HTTP addresses, "<host>:<port>".
	List func(context.Context) ([]string, error)
	Log  logr.Logger
}

// Used gives what they know of a workload, "<namespace>/<kind>/<name>".
func (p *Peers) Used(ctx context.Context, workload string) []envoy.ID {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addresses, err := p.List(ctx)
	if err != nil {
		p.Log.Error(err, "list the other replicas")
		return nil
	}
	var mu sync.Mutex
	var out []envoy.ID
	var wg sync.WaitGroup
	for _, address := range addresses {
		wg.Go(func() {
			used, err := ask(ctx, address, workload)
			if err != nil {
				p.Log.V(1).Info("a replica did not say what a workload uses", "replica", address, "workload", workload, "error", err.Error())
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, used...)
		})
	}
	wg.Wait()
	return out
}

func ask(ctx context.Context, address, workload string) ([]envoy.ID, error) {
	u := url.URL{Scheme: "http", Host: address, Path: Path, RawQuery: url.Values{"workload": {workload}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", u.String(), res.Status)
	}
	var used []envoy.ID
	return used, json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&used)
}
