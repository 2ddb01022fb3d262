package xds

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// sidecar speaks delta ADS with a server on a store, and acknowledges what comes.
type sidecar struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	// stop ends it and the server.
	stop func()
	// listeners are those named outbound that have come and were not looked at.
	listeners []*listenerv3.Listener
}

func connect(t *testing.T, store *server.Store) *sidecar {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := server.New(server.Options{Store: store, Log: logr.Discard()})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &sidecar{t: t, stream: stream}
	p.stop = sync.OnceFunc(func() {
		conn.Close()
		cancel()
		<-done
	})
	return p
}

func (p *sidecar) send(req *discoveryv3.DeltaDiscoveryRequest) {
	p.t.Helper()
	req.Node = node.Node{Namespace: "shop", Pod: "client", ServiceAccount: "default"}.Proto()
	if err := p.stream.Send(req); err != nil {
		p.t.Fatal(err)
	}
}

// subscribe asks for names of a type, of clusters beside all.
func (p *sidecar) subscribe(typeURL string, names ...string) {
	p.t.Helper()
	if typeURL == envoy.ClusterType {
		names = append(names, "*")
	}
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

// cluster waits for the next cluster of the name.
func (p *sidecar) cluster(name string) *clusterv3.Cluster {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		res := p.receive()
		for _, r := range res.Resources {
			var c clusterv3.Cluster
			if r.Name == name && r.Resource.UnmarshalTo(&c) == nil {
				return &c
			}
		}
		if slices.Contains(res.RemovedResources, name) {
			p.t.Fatalf("cluster %q is removed", name)
		}
	}
	p.t.Fatalf("no cluster %q", name)
	return nil
}

// address gives who is said to be at an address of a pod; nobody where the answer is that it is no address.
func (p *sidecar) address(name string) string {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		res := p.receive()
		for _, r := range res.Resources {
			var who wrapperspb.StringValue
			if r.Name == name && r.Resource.UnmarshalTo(&who) == nil {
				return who.Value
			}
		}
		if slices.Contains(res.RemovedResources, name) {
			return "nobody"
		}
	}
	p.t.Fatalf("nothing of %q", name)
	return ""
}

// outbound gives the next outbound listener.
func (p *sidecar) outbound() *listenerv3.Listener {
	p.t.Helper()
	for len(p.listeners) == 0 {
		p.receive()
	}
	next := p.listeners[0]
	p.listeners = p.listeners[1:]
	return next
}

func (p *sidecar) receive() *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	stop := time.AfterFunc(10*time.Second, p.stop)
	defer stop.Stop()
	res, err := p.stream.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range res.Resources {
		if l := (&listenerv3.Listener{}); r.Name == "outbound" && r.Resource.UnmarshalTo(l) == nil {
			p.listeners = append(p.listeners, l)
		}
		c := &clusterv3.Cluster{}
		if r.Resource.UnmarshalTo(c) == nil && c.EdsClusterConfig != nil {
			p.subscribe(envoy.EndpointType, c.EdsClusterConfig.ServiceName)
		}
	}
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce})
	return res
}
