package feature

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// scopesForAll are the resources that the control plane of commit 543f858 sent to a sidecar of webs(1, 4) that had called each,
// with their names: a scope for each Service port, whose routes come on demand.
//
//go:embed testdata/scopes-for-all.jsonl
var scopesForAll []byte

// TestUpgradeFromScopesForAll: a sidecar comes from a control plane that sent every sidecar all scopes. What works goes on
// working, also on connections that were made before, and what was never called works at the first call.
func TestUpgradeFromScopesForAll(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	httpBackend(t, "10.244.0.6:8080")
	services, urls := webs(1, 4)
	w := newCluster(t, services, onDemand, tapped, twoWorkers)
	stopFormer := w.startFormerControlPlane()
	w.startEnvoy()
	w.answers(urls[0])
	used := w.calls(urls[0])
	idle := dial(t, "10.96.1.2:80") // in the hands of the former listener, and without a request yet

	stopFormer()
	w.startControlPlane()
	w.await("Envoy has the new listener", func() error {
		if n := w.stat("listener_manager.listener_in_place_updated"); n < 1 {
			return fmt.Errorf("%d changes", n)
		}
		return nil
	})
	fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("first request on a connection of the former listener: %+v, error %v", res, err)
	}
	w.first(urls[2])

	// What the sidecar has is kept up to date.
	moved := maps.Clone(services)
	web := moved["web-1-0"]
	web.endpoints = []string{"10.244.0.6:8080"}
	moved["web-1-0"] = web
	w.publish(moved)
	w.await("the endpoint that has moved", func() error { return w.servedBy(urls[0], "10.244.0.6:8080") })
	used()
	delete(moved, "web-1-0")
	w.publish(moved)
	w.await("a Service that is deleted", func() error {
		if a := call(client(t, false), request(http.MethodGet, urls[0], nil)); a.status != http.StatusServiceUnavailable || a.took > 2*time.Second {
			return errors.New(a.String())
		}
		return nil
	})
	moved["again"] = service{ips: []string{"10.96.1.1"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}
	w.publish(moved)
	w.await("another Service at its address", func() error { return w.servedBy(urls[0], "10.244.0.5:8080") })
}

// first fails the test if a Service does not answer a first call within the bound.
func (w *testMesh) first(url string) {
	w.t.Helper()
	if a := call(client(w.t, false), request(http.MethodGet, url, nil)); a.err != nil || a.status != http.StatusOK {
		w.t.Errorf("first call to %s: %s", url, a)
	}
}

func (w *testMesh) servedBy(url, endpoint string) error {
	if a := call(client(w.t, false), request(http.MethodGet, url, nil)); a.status != http.StatusOK || a.body != endpoint {
		return errors.New(a.String())
	}
	return nil
}

// calls makes calls over one connection and over new ones, until the function that it returns is called. None may fail.
func (w *testMesh) calls(url string) (stop func()) {
	var ended atomic.Bool
	var all sync.WaitGroup
	for _, each := range []bool{false, true} {
		all.Go(func() {
			c := client(w.t, false)
			for n := 0; !ended.Load(); n++ {
				if a := call(c, request(http.MethodGet, url, nil)); a.err != nil || a.status != http.StatusOK {
					w.t.Errorf("call %d, each over a connection of its own %t: %s", n, each, a)
					return
				}
				if each {
					c.CloseIdleConnections()
				}
			}
		})
	}
	return func() { ended.Store(true); all.Wait() }
}

// startFormerControlPlane serves scopesForAll at the address of the mesh's control plane, until it is stopped.
func (w *testMesh) startFormerControlPlane() (stop func()) {
	w.t.Helper()
	resources := map[string]map[string]types.Resource{}
	for line := range bytes.Lines(scopesForAll) {
		var of struct {
			Name     string
			Resource json.RawMessage
		}
		w.must(json.Unmarshal(line, &of))
		var message anypb.Any
		w.must(protojson.Unmarshal(of.Resource, &message))
		r, err := message.UnmarshalNew()
		w.must(err)
		if resources[message.TypeUrl] == nil {
			resources[message.TypeUrl] = map[string]types.Resource{}
		}
		resources[message.TypeUrl][of.Name] = r
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	caches := map[string]cache.Cache{}
	for typeURL, of := range resources {
		caches[typeURL] = cache.NewLinearCache(typeURL, cache.WithInitialResources(of))
	}
	mux := &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.TypeUrl },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.TypeUrl },
		Caches:        caches,
	}
	l, err := net.Listen("tcp", w.address)
	w.must(err)
	w.address = l.Addr().String()
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(w.Authority.TLS(true))))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, mux, nil))
	var served sync.WaitGroup
	served.Go(func() {
		if err := g.Serve(l); err != nil {
			w.t.Error(err)
		}
	})
	return func() { cancel(); g.Stop(); served.Wait() }
}
