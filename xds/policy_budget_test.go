package xds_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// The budget of a Service's retryConstraint stands in for the mesh's.
func TestRetryConstraint(t *testing.T) {
	const clients, each, attempts = 30, 10, 3
	for name, c := range map[string]struct {
		budget      *mesh.RetryBudget
		least, most int32
	}{
		"none":       {budget: &mesh.RetryBudget{Percent: 0, MinConcurrent: 1}, least: clients*each + 1, most: clients * each * 5 / 4},
		"all":        {budget: &mesh.RetryBudget{Percent: 0, MinConcurrent: 1000}, least: clients * each * (1 + attempts), most: clients * each * (1 + attempts)},
		"the mesh's": {least: clients*each + 1, most: clients * each * 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(5 * time.Millisecond) // the work of a call
				w.WriteHeader(503)
			})
			svc := service("cart")
			svc.Traffic.RetryBudget = c.budget
			svc.Calls = config.Calls{RetryOn: []string{"5xx"}, RetryAttempts: new(int32(attempts)), RetryBackoff: new(time.Millisecond)}
			f := newFleet(t, svc)
			f.set("cart", b.address)
			f.serve(nil)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for range each {
						f.get("/")
					}
				})
			}
			wg.Wait()
			if n := b.calls.Load(); n < c.least || n > c.most {
				t.Errorf("%d calls made %d at the server, want %d to %d", clients*each, n, c.least, c.most)
			} else {
				t.Logf("%d calls made %d at the server", clients*each, n)
			}
		})
	}
}
