package feature

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// TestDeletedWhileWaiting: a Service is deleted while a first request to it waits. The request is answered
// at once, not at the bound, and so is the next; when the Service is back, it answers.
func TestDeletedWhileWaiting(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	services, urls := webs(1, 3)
	without := maps.Clone(services)
	delete(without, "web-1-1")
	const text = "mizzen: no Service has the address 10.96.1.2:80\n"
	for _, tt := range []struct {
		name string
		hold func(message) bool
		// release lets what is held pass before the answer is awaited; other makes another first call before.
		release, other bool
	}{
		{"the cluster is on its way", responses(envoy.ClusterType), true, false},
		{"the endpoints are on their way", responses(envoy.EndpointType), true, false},
		{"Envoy is silent about the cluster", acks(envoy.ClusterType), false, false},
		{"Envoy is silent about the endpoints", requests(envoy.EndpointType), false, false},
		{"Envoy is silent about other routes", acks(envoy.RouteType), true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newMesh(t, services, onDemand, tapped, bound(8*time.Second))
			w.answers(urls[0])
			w.tap.holdBack(tt.hold)
			if tt.other {
				w.answers(urls[2])
			}
			done := make(chan answer, 1)
			start := time.Now()
			go func() { done <- call(client(t, true), request(http.MethodPost, urls[1], nil)) }()
			w.awaitHeld()
			if tt.other {
				w.await("the demand", func() error {
					if w.tap.asked(envoy.ClusterType, envoy.Demand("10.96.1.2:80")) == 0 {
						return errors.New("not heard")
					}
					return nil
				})
			}
			w.publish(without)
			if tt.release {
				w.tap.release()
			}
			if a := <-done; a.status != http.StatusServiceUnavailable || a.body != text || time.Since(start) > 5*time.Second {
				t.Errorf("waiting request: %s", a)
			}
			w.tap.release()
			if a := call(client(t, false), request(http.MethodGet, urls[1], nil)); a.status != http.StatusServiceUnavailable || a.took > 2*time.Second {
				t.Errorf("the next request: %s", a)
			}
			w.publish(services)
			w.answers(urls[1])
		})
	}
}

// TestAtOnce: first requests at once, from many connections and so in both of Envoy's threads, are all
// answered, and a name is asked for once.
func TestAtOnce(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	const callers = 100
	services, urls := webs(3, callers+1)
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", h2), func(t *testing.T) {
			w := newMesh(t, services, onDemand, tapped, twoWorkers)
			at := func(name string, urls []string) {
				// So that each waits: a busy machine may serve the first before it makes the last.
				w.tap.holdBack(requests(envoy.ClusterType))
				var all sync.WaitGroup
				for _, url := range urls {
					all.Go(func() {
						if a := call(client(t, h2), request(http.MethodGet, url, nil)); a.status != http.StatusOK || a.err != nil {
							t.Errorf("%s, %s: %s", name, url, a)
						}
					})
				}
				w.await("all requests wait", func() error {
					if n := w.stat("http.outbound_http.downstream_rq_active"); n != len(urls) {
						return fmt.Errorf("%d of %d", n, len(urls))
					}
					return nil
				})
				w.tap.release()
				all.Wait()
			}
			at("to one", slices.Repeat(urls[:1], callers))
			at("each to another", urls[1:])
			for i := range urls {
				name := envoy.Demand(strings.TrimSuffix(strings.TrimPrefix(urls[i], "http://"), "/") + ":80")
				if n := w.tap.asked(envoy.ClusterType, name); n != 1 {
					t.Errorf("%s was asked for %d times", name, n)
				}
			}
		})
	}
}

// TestAnswerIsRepeated: Envoy waits for the answer to a demand, and the one that the server has given is not for it. That is
// so for a thread of Envoy that has looked before the routes came and asks after the answer; here the answer is held back.
func TestAnswerIsRepeated(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	services, urls := webs(1, 1)
	w := newMesh(t, services, onDemand, tapped, bound(8*time.Second))
	answers := 0
	w.tap.holdBack(func(m message) bool {
		if m.response.GetTypeUrl() != envoy.ClusterType || len(m.response.GetRemovedResources()) == 0 {
			return false
		}
		answers++
		return answers == 1
	})
	if a := call(client(t, false), request(http.MethodGet, urls[0], nil)); a.status != http.StatusOK || a.took > 4*time.Second {
		t.Errorf("%s", a)
	}
	if answers < 2 {
		t.Errorf("the answer was given %d times", answers)
	}
	w.tap.release()
}

// TestCallsAfterTheFirst: a call with routes asks nobody, and goes on while the control plane says nothing.
func TestCallsAfterTheFirst(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	services, urls := webs(1, 1)
	w := newMesh(t, services, onDemand, tapped, bound(8*time.Second))
	w.answers(urls[0])
	w.tap.holdBack(responses(envoy.ClusterType))
	for range 10 {
		if a := call(client(t, false), request(http.MethodGet, urls[0], nil)); a.status != http.StatusOK || a.took > 2*time.Second {
			t.Errorf("%s", a)
		}
	}
	w.tap.release()
}

// TestReconnect: a new server sends nothing that Envoy has, not even the answers about what does not exist. It only says again
// that the clusters do not exist by which scopes are asked for.
func TestReconnect(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	greeter(t, "10.244.0.5:9000")
	services, urls := webs(1, 20)
	for i := range 4 {
		services[fmt.Sprintf("db-%d", i)] = service{
			ips: []string{fmt.Sprintf("10.96.0.%d", 20+i)}, port: port("tcp", 9000), endpoints: []string{"10.244.0.5:9000"},
		}
	}
	w := newMesh(t, services, onDemand, tapped)
	for _, url := range urls[:8] {
		w.answers(url)
	}
	for i := range 2 {
		dialGreeter(t, fmt.Sprintf("10.96.0.%d:9000", 20+i))
	}
	refused(t, "no such Service", "10.96.0.99:9000")
	w.stop()
	w.startControlPlane()
	w.answers(urls[8]) // now everything has been said again
	known := map[string]bool{"outbound/shop/web-1-8/80": true, "10.96.1.9:80": true}
	for i := range 9 {
		known[envoy.Demand(fmt.Sprintf("10.96.1.%d:80", i+1))] = true
	}
	types := map[string]bool{}
	for _, m := range w.tap.heard(2) {
		if m.request != nil {
			types[short(m.request.TypeUrl)] = true
			continue
		}
		for _, name := range append(m.names(), m.response.RemovedResources...) {
			if !known[name] {
				t.Errorf("sent again: %s %s", short(m.response.TypeUrl), name)
			}
		}
		if len(m.names()) == 0 && len(m.response.RemovedResources) == 0 {
			t.Errorf("an answer without resources: %s", m)
		}
	}
	if len(types) != 5 {
		t.Errorf("on the second stream Envoy has spoken of %v, want five types", types)
	}
	// The new server knows what Envoy uses: it hears of a change.
	changed := maps.Clone(services)
	web := changed["web-1-0"]
	web.endpoints = nil
	changed["web-1-0"] = web
	w.publish(changed)
	w.await("the change arrives", func() error {
		if a := call(client(t, false), request(http.MethodGet, urls[0], nil)); a.status != http.StatusServiceUnavailable {
			return errors.New(a.String())
		}
		return nil
	})
}
