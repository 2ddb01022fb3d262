package feature

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestChangesHarmNobody: while one HTTP/2 connection and one TCP connection are in use, Services of
// every protocol come and go (so the outbound listener changes as well), a Service changes its
// clusters, and endpoints are replaced. No call fails, and no connection is cut.
func TestChangesHarmNobody(t *testing.T) { bothWays(t, testChangesHarmNobody) }

func testChangesHarmNobody(t *testing.T, o option) {
	first, second := "10.244.0.5:8080", "10.244.0.6:8080"
	for _, b := range []string{first, second} {
		httpBackend(t, b)
	}
	greeter(t, "10.244.0.7:9000")
	services := map[string]service{
		"web": {ips: []string{"10.96.0.60"}, port: port("http", 80), endpoints: []string{first}},
		"db":  {ips: []string{"10.96.0.61"}, port: port("tcp", 9000), endpoints: []string{"10.244.0.7:9000"}},
	}
	w := newMesh(t, services, o)
	db := dialGreeter(t, "10.96.0.61:9000")

	var calls, lastFromSecond atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c := client(t, true)
		for {
			select {
			case <-stop:
				return
			default:
			}
			status, body, err := get(c, "http://10.96.0.60/")
			if err != nil || status != http.StatusOK {
				t.Errorf("call %d: status %d, body %q, error %v", calls.Load(), status, body, err)
				return
			}
			if body == second {
				lastFromSecond.Store(calls.Load())
			}
			calls.Add(1)
		}
	}()

	for round := range 10 {
		changed := map[string]service{}
		for name, s := range services {
			changed[name] = s
		}
		endpoints := []string{first}
		if round%2 == 0 {
			endpoints = []string{second}
		}
		changed["web"] = service{ips: []string{"10.96.0.60"}, port: port("http", 80), endpoints: endpoints}
		for i, name := range []string{"http-a", "tcp-b", "web"} { // the same port number in three protocols
			changed[fmt.Sprintf("new-%d-%d", round, i)] = service{
				ips: []string{fmt.Sprintf("10.96.%d.%d", round+1, i+1)}, port: port(name, 80), endpoints: []string{first},
			}
		}
		w.publish(changed)
		w.await("the newest Service answers", func() error {
			status, body, err := get(client(t, false), fmt.Sprintf("http://10.96.%d.1/", round+1))
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("status %d, body %q, error %v", status, body, err) //nolint:errorlint // err may be nil
			}
			return nil
		})
		if got := db.echo("still here"); got != "still here" {
			t.Fatalf("round %d: the TCP connection answers %q", round, got)
		}
	}
	w.publish(map[string]service{ // the last word: only second
		"web": {ips: []string{"10.96.0.60"}, port: port("http", 80), endpoints: []string{second}},
		"db":  services["db"],
	})
	w.await("calls arrive at the second endpoint", func() error {
		if n := calls.Load(); lastFromSecond.Load() < n-1 {
			return fmt.Errorf("last of %d calls there: %d", n, lastFromSecond.Load())
		}
		return nil
	})
	close(stop)
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Fatal("a call hangs")
	}
	t.Logf("%d calls during 11 changes", calls.Load())
}
