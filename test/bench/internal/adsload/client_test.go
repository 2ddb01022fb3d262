package adsload

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// recorded notes what a client sends: "CDS +subscribed -unsubscribed =held ack 1".
type recorded struct {
	grpc.ClientStream
	sent []string
}

func (r *recorded) SendMsg(m any) error {
	var req discoveryv3.DeltaDiscoveryRequest
	if err := proto.Unmarshal(m.([]byte), &req); err != nil {
		return err
	}
	kind, err := kindOf(req.TypeUrl)
	if err != nil {
		return err
	}
	words := []string{kind.String()}
	for _, name := range req.ResourceNamesSubscribe {
		words = append(words, "+"+name)
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		words = append(words, "-"+name)
	}
	for name := range req.InitialResourceVersions {
		words = append(words, "="+name)
	}
	slices.Sort(words[1:])
	if req.ResponseNonce != "" {
		words = append(words, "ack "+req.ResponseNonce)
	}
	r.sent = append(r.sent, strings.Join(words, " "))
	return nil
}

func wire(t *testing.T, name string, m proto.Message) wireResource {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	body, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return wireResource{name: []byte(name), version: []byte("1"), body: body}
}

// The conversation of a client with a control plane, as Envoy has it.
func TestConversation(t *testing.T) {
	const first, second, third, preloaded = "10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80", "10.96.0.4:80"
	scope := func(name string) wireResource { return wire(t, name, envoy.Scope(name).Message) }
	cluster := func(name string) wireResource {
		return wire(t, name, &clusterv3.Cluster{Name: name, EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: "of-" + name}})
	}
	endpoints := func(name string) wireResource {
		return wire(t, name, &endpointv3.ClusterLoadAssignment{ClusterName: name})
	}
	routes := func(name, cluster string) wireResource {
		return wire(t, name, &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{Routes: []*routev3.Route{{
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
		}}}}})
	}
	f := New(Options{Nodes: make([]node.Node, 1), Uses: func(int) Uses {
		return Uses{HTTP: []string{first, second, preloaded}}
	}})
	f.waiting, f.done = 1, make(chan struct{})
	c, stream := f.clients[0], &recorded{}
	expect := func(step string, want ...string) {
		t.Helper()
		if !slices.Equal(stream.sent, want) {
			t.Errorf("%s: the client sent\n%s\nwant\n%s", step, strings.Join(stream.sent, "\n"), strings.Join(want, "\n"))
		}
		stream.sent = nil
	}
	if err := c.begin(stream); err != nil {
		t.Fatal(err)
	}
	expect("begin", "CDS")
	steps := []struct {
		name    string
		kind    Kind
		set     []wireResource
		removed []string
		use     string // called after the response
		want    []string
	}{
		{name: "no clusters", kind: Clusters, want: []string{"CDS ack 0", "LDS"}},
		{name: "no listeners", kind: Listeners, want: []string{"LDS ack 1", "SRDS"}},
		{
			name: "the first scopes: one demand alone", kind: Scopes, set: []wireResource{wire(t, "ask", envoy.Scope(envoy.AskScope).Message), scope(preloaded)},
			want: []string{"RDS +" + preloaded, "SRDS ack 2", "CDS +demand/" + first},
		},
		{name: "a cluster to warm, and another call", kind: Clusters, set: []wireResource{cluster("a")}, use: third, want: []string{"EDS +of-a"}},
		{name: "a scope", kind: Scopes, set: []wireResource{scope(first)}, want: []string{"RDS +" + first, "SRDS ack 4"}},
		{name: "its routes", kind: Routes, set: []wireResource{routes(first, "a")}, want: []string{"RDS ack 5"}},
		{name: "the first answer, while a cluster warms", kind: Clusters, removed: []string{"demand/" + first}},
		{
			name: "warm", kind: Endpoints, set: []wireResource{endpoints("of-a")},
			want: []string{"EDS ack 7", "CDS ack 3", "CDS ack 6", "CDS +demand/" + second + " +demand/" + third},
		},
		{name: "the answer again", kind: Clusters, removed: []string{"demand/" + first}, want: []string{"CDS ack 8"}},
		{name: "a scope goes", kind: Scopes, removed: []string{preloaded}, want: []string{"RDS -" + preloaded, "SRDS ack 9"}},
		{name: "and comes", kind: Scopes, set: []wireResource{scope(preloaded)}, want: []string{"RDS +" + preloaded, "SRDS ack 10"}},
		{name: "others", kind: Scopes, set: []wireResource{scope(second), scope(third)}, want: []string{"RDS +" + second + " +" + third, "SRDS ack 11"}},
		{
			name: "and their routes", kind: Routes, set: []wireResource{routes(second, "a"), routes(third, "a"), routes(preloaded, "a")},
			want: []string{"RDS ack 12"},
		},
		{name: "answers", kind: Clusters, removed: []string{"demand/" + second, "demand/" + third}, want: []string{"CDS ack 13"}},
	}
	for i, step := range steps {
		if !c.syncedAt.IsZero() {
			t.Errorf("%s: in sync before", step.name)
		}
		res := &wireResponse{kind: step.kind, nonce: fmt.Sprint(i), resources: step.set, removed: step.removed}
		if err := c.handle(res); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if step.use != "" {
			if asked, err := f.Use(0, step.use); !asked || err != nil {
				t.Errorf("%s: the call asked %t, error %v", step.name, asked, err)
			}
		}
		expect(step.name, step.want...)
	}
	if c.syncedAt.IsZero() {
		t.Error("not in sync at the end")
	}
	if err := c.begin(stream); err != nil {
		t.Fatal(err)
	}
	expect("another stream",
		"CDS +* +demand/"+first+" +demand/"+second+" +demand/"+third+" =a",
		"EDS +of-a =of-a",
		"LDS",
		"SRDS ="+first+" ="+second+" ="+third+" ="+preloaded+" =ask",
		"RDS +"+first+" +"+second+" +"+third+" +"+preloaded+" ="+first+" ="+second+" ="+third+" ="+preloaded,
		"SDS +adsload",
	)
	if err := c.handle(&wireResponse{kind: probes, removed: []string{"adsload"}}); err != nil {
		t.Fatal(err)
	}
	if !c.syncedAt.IsZero() {
		t.Error("in sync again before the demands are answered")
	}
	if err := c.handle(&wireResponse{kind: Clusters, removed: []string{"demand/" + first, "demand/" + second, "demand/" + third}}); err != nil {
		t.Fatal(err)
	}
	if c.syncedAt.IsZero() {
		t.Error("not in sync again after the answers")
	}
}

// What no control plane may answer to a demand.
func TestWrongAnswer(t *testing.T) {
	const destination = "10.96.0.1:80"
	name := envoy.Demand(destination)
	for _, test := range []struct {
		name string
		res  wireResponse
		want string
	}{
		{"before the routes", wireResponse{kind: Clusters, removed: []string{name}}, "before its routes"},
		{"a cluster", wireResponse{kind: Clusters, resources: []wireResource{wire(t, name, &clusterv3.Cluster{Name: name})}}, "must not exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := New(Options{Nodes: make([]node.Node, 1)})
			c := f.clients[0]
			if err := c.begin(&recorded{}); err != nil {
				t.Fatal(err)
			}
			if err := c.handle(&test.res); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}
