package ctl

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// forwardingAPI is as much of an API server and a kubelet as forwards ports over SPDY, to one address; empty is a pod
// in which nobody listens.
func forwardingAPI(t *testing.T, to string) *clusterFlags {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v1/namespaces/shop/pods/forbidden/portforward":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"forbidden\" is forbidden: no","reason":"Forbidden","code":403}`)
			return
		case r.URL.Path != "/api/v1/namespaces/shop/pods/cart/portforward" || r.Method != http.MethodPost:
			http.NotFound(w, r) // WebSockets come with GET
			return
		}
		if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardProtocolV1Name}); err != nil {
			return
		}
		streams := make(chan httpstream.Stream, 8)
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
			streams <- s
			return nil
		})
		if conn == nil {
			return
		}
		defer conn.Close()
		var failure httpstream.Stream
		for {
			select {
			case s := <-streams:
				if got := s.Headers().Get(corev1.PortHeader); got != fmt.Sprint(config.AgentPort) {
					t.Errorf("port %s", got)
				}
				if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
					failure = s
					continue
				}
				go forwardStream(s, failure, to)
			case <-conn.CloseChan():
				return
			}
		}
	}))
	t.Cleanup(api.Close)
	kubeconfig := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: %q}}]\n", api.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &clusterFlags{kubeconfig: kubeconfig}
}

func forwardStream(s, failure httpstream.Stream, to string) {
	defer s.Close()
	defer failure.Close()
	conn, err := net.Dial("tcp", to)
	if err != nil {
		fmt.Fprintf(failure, "an error occurred forwarding: %v", err)
		return
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(conn, s) }()
	_, _ = io.Copy(s, conn)
}

func TestAgentsAreAskedByForwardedPorts(t *testing.T) {
	answer := func(status int, body string) string {
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != agentapi.PlainTextPath {
				t.Errorf("%s", r.URL.Path)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(agent.Close)
		return agent.Listener.Addr().String()
	}
	for name, c := range map[string]struct{ pod, to, want string }{
		"an answer":     {"cart", answer(200, `{"since": "2026-03-01T12:00:00Z", "callers": [{"source": "10.0.0.1", "port": 80}]}`), ""},
		"forbidden":     {"forbidden", "", `pods "forbidden" is forbidden: no`},
		"no such pod":   {"other", "", "not found"},
		"nobody there":  {"cart", "127.0.0.1:1", "port 15020: an error occurred forwarding: dial tcp 127.0.0.1:1: connect: connection refused"},
		"older agent":   {"cart", answer(404, "404 page not found"), "its sidecar has an older version, or no identity"},
		"broken agent":  {"cart", answer(500, "no\x1b[2J"), "the agent answered 500: no?[2J"},
		"not JSON":      {"cart", answer(200, "<html>"), "cannot read the agent's answer"},
		"bad address":   {"cart", answer(200, `{"callers": [{"source": "x"}]}`), "cannot read the agent's answer"},
		"a huge answer": {"cart", answer(200, strings.Repeat(" ", maxAgentAnswer)+"{}"), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := forwardingAPI(t, c.to).connectAgents()
			if err != nil {
				t.Fatal(err)
			}
			var got agentapi.PlainText
			err = a.ask(context.Background(), mesh.Key{Namespace: "shop", Name: c.pod}, agentapi.PlainTextPath, &got)
			switch {
			case c.want == "" && (err != nil || len(got.Callers) != 1):
				t.Errorf("%+v, %v", got, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a, err := forwardingAPI(t, "").connectAgents()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ask(ctx, mesh.Key{Namespace: "shop", Name: "cart"}, agentapi.PlainTextPath, nil); err == nil {
		t.Error("an answer in spite of the end")
	}
}
