package feature

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

var firstCalls = flag.Int("firstcalls", 1000, "first calls over changing Services; from 10000 on their latency is asserted too")

// TestFirstCallsOverChangingServices: new Services are called, each for the first time and once more, while
// those that were called go, others come, are never called, and change their endpoints, their protocol and
// the listener. No call fails.
func TestFirstCallsOverChangingServices(t *testing.T) {
	const batch = 100
	backends := []string{"10.244.0.5:8080", "10.244.0.6:8080"}
	for _, b := range backends {
		httpBackend(t, b)
	}
	// One batch is called while the one before it goes and the one behind it comes.
	services := func(n int) map[string]service {
		out := map[string]service{}
		for i := range batch {
			at := n*batch + i
			out[fmt.Sprintf("web-%d", at)] = service{ips: []string{serviceIP(at)}, port: port(portName(at), 80), endpoints: backends[at%2 : at%2+1]}
		}
		// With its scope all those of the batch have arrived.
		out[fmt.Sprintf("last-%d", n)] = service{ips: []string{fmt.Sprintf("10.96.255.%d", n%250+1)}, port: port("http", 80), endpoints: backends}
		return out
	}
	w := newMesh(t, services(0), onDemand, twoWorkers)
	stop := make(chan struct{})
	var changes sync.Mutex
	var all sync.WaitGroup
	all.Go(func() { // about as often as the control plane publishes while changes do not end
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			changes.Lock()
			w.change(map[string]service{
				"unused": {ips: []string{"10.96.254.1"}, port: port([]string{"http", "tcp"}[i%2], 80), endpoints: backends[i%2:]},
				"db":     {ips: []string{"10.96.254.2"}, port: port("tcp", int32(7000+i/10%2)), endpoints: backends}, // and so the listener
			}, []string{"comes-and-goes", "other"}[i%2])
			w.change(map[string]service{
				[]string{"comes-and-goes", "other"}[i%2]: {ips: []string{"10.96.254.3"}, port: port("http", 80)},
			})
			changes.Unlock()
		}
	})
	var first, second []time.Duration
	for n := 0; len(first) < *firstCalls; n++ {
		var gone []string
		if n > 0 {
			for name := range services(n - 1) {
				gone = append(gone, name)
			}
		}
		changes.Lock()
		w.change(services(n+1), gone...)
		changes.Unlock()
		w.answers(fmt.Sprintf("http://10.96.255.%d/", n%250+1))
		for i := range batch {
			for _, took := range []*[]time.Duration{&first, &second} {
				c := client(t, false)
				a := call(c, request(http.MethodGet, "http://"+serviceIP(n*batch+i)+"/", nil))
				c.CloseIdleConnections()
				if a.err != nil || a.status != http.StatusOK {
					t.Errorf("call %d (%s): %s", len(*took), portName(n*batch+i), a)
				}
				*took = append(*took, a.took)
			}
		}
	}
	close(stop)
	all.Wait()
	for _, took := range [][]time.Duration{first, second} {
		slices.Sort(took)
	}
	n := len(first)
	report("%d first calls: p50 %s, p99 %s, slowest %s; second calls: %s, %s, %s", n,
		ms(first[n/2]), ms(first[n*99/100]), ms(first[n-1]), ms(second[n/2]), ms(second[n*99/100]), ms(second[n-1]))
	if more := first[n*99/100] - second[n*99/100]; *firstCalls >= 10_000 && more > 10*time.Millisecond {
		t.Errorf("p99 of a first call is %s more than that of a second one, want at most 10 ms", ms(more))
	}
}

func serviceIP(i int) string { return fmt.Sprintf("10.96.%d.%d", i/250, i%250+1) }

// portName makes each fifth Service an opaque one.
func portName(i int) string {
	if i%5 == 4 {
		return "tcp"
	}
	return "http"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

// report prints a figure, without -v too.
func report(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
