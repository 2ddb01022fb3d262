package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mizzen-mesh/mizzen/internal/dashboard"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const meshedServer = `---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: app, image: app}]}
status: {phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-2, namespace: shop, labels: {app: cart}}
spec: {containers: [{name: app, image: app}]}
status: {phase: Succeeded}
`

// flaky answers, fails, and answers again.
type flaky struct {
	growing
	fails bool
}

func (f *flaky) page(ctx context.Context, pod mesh.Key, port int, path string) ([]byte, error) {
	if f.fails {
		return nil, errors.New("away")
	}
	return f.growing.page(ctx, pod, port, path)
}

// What a sidecar counts while it cannot be asked comes when it can. After a pause, counting begins anew.
func TestMeshSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := &flaky{}
		o := statOptions{connect: anyClusterOf(t, []byte(meshedPod), nil), agents: func(*clusterFlags) (agents, error) { return asked, nil }, output: "table"}
		reads, err := o.open(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &meshSource{traffic: reads, now: time.Now, longest: time.Minute}
		read := func(requests int64, perSecond, seconds float64, missing int) {
			t.Helper()
			got, err := s.Traffic(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var all dashboard.Call
			for _, c := range got.Calls {
				all = c
			}
			if all.Requests != requests || all.PerSecond != perSecond || got.Seconds != seconds || len(got.Missing) != missing {
				t.Errorf("%+v, want %d requests, %g a second, in %g s, %d missing", got, requests, perSecond, seconds, missing)
			}
			time.Sleep(10 * time.Second)
		}
		read(0, 0, 0, 0) // it has counted 1
		read(10, 1, 10, 0)
		asked.fails = true
		read(0, 0, 0, 1)
		asked.fails = false
		read(100, 5, 20, 0) // from 11 to 111
		time.Sleep(time.Hour)
		read(0, 0, 0, 0)
	})
}

// dashboard prints an address, at which the page is, and its data: who calls whom, and what status says.
func TestDashboard(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	cmd := newCommand(anyClusterOf(t, []byte(meshedPod+meshedServer), nil), func(*clusterFlags) (agents, error) { return &growing{}, nil }, time.Now)
	cmd.SetArgs([]string{"dashboard", "--interval", minWindow.String()})
	cmd.SetOut(w)
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	var address string
	if _, err := fmt.Fscanln(r, &address); err != nil {
		t.Fatal(err)
	}
	if u, err := url.Parse(address); err != nil || u.Hostname() != "127.0.0.1" || len(u.Path) < 20 {
		t.Errorf("address %q", address)
	}
	get := func(path string, into any) string {
		t.Helper()
		res, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err == nil && into != nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v: %s", path, res.Status, err, b)
		}
		return string(b)
	}
	if got := get("", nil); !strings.Contains(got, "app.js") {
		t.Errorf("the page: %s", got)
	}
	var status statusView
	get("api/status", &status)
	if len(status.Checks) < 8 {
		t.Errorf("status: %+v", status)
	}
	var page struct {
		Seconds float64
		Graph   dashboard.Graph
		Calls   []dashboard.Call
		Error   string
	}
	for end := time.Now().Add(20 * time.Second); page.Seconds == 0; time.Sleep(50 * time.Millisecond) {
		if get("api/traffic", &page); time.Now().After(end) {
			t.Fatalf("no traffic: %+v", page)
		}
	}
	want := []dashboard.Node{
		{ID: "service/shop/cart", Namespace: "shop", Name: "cart", Service: true, Workloads: []string{"Pod/cart-1"}, Pods: 1},
		{ID: "workload/web/Pod/web-1", Namespace: "web", Name: "Pod/web-1"},
	}
	if diff := cmp.Diff(want, page.Graph.Nodes); diff != "" || page.Error != "" {
		t.Errorf("error %q, nodes (-want +got):\n%s", page.Error, diff)
	}
	if len(page.Graph.Edges) != 1 || page.Graph.Edges[0].MTLS != "none" || page.Graph.Edges[0].PerSecond <= 0 || len(page.Calls) != 1 {
		t.Errorf("%+v, want an edge with requests", page)
	}
	if !page.Calls[0].Plain || page.Calls[0].FromNode != "workload/web/Pod/web-1" {
		t.Errorf("%+v, want a caller without an identity, and its node", page.Calls[0])
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
