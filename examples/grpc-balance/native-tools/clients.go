package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/examples/grpc-balance/whoami"
)

// callTimeout bounds one call to the other Service.
const callTimeout = 5 * time.Second

// serviceName is what ?name= may hold: a DNS name, so that nobody can smuggle in a path or a port.
var serviceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// clients calls other Services. The gRPC connection to a name is dialled once and shared by every
// request from then on, as most gRPC clients do; HTTP calls use a fresh connection each.
type clients struct {
	httpPort, grpcPort int
	http               *http.Client

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn
}

func newClients(httpPort, grpcPort int) *clients {
	return &clients{
		httpPort: httpPort,
		grpcPort: grpcPort,
		http:     &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		conns:    map[string]*grpc.ClientConn{},
	}
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close() // the process ends
	}
}

func (c *clients) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /grpc_client", answer(c.callGRPC))
	mux.HandleFunc("GET /http_client", answer(c.callHTTP))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// answer turns a call into a handler that answers the pod's name, or 502 and why.
func answer(call func(ctx context.Context, name string) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		if !serviceName.MatchString(name) {
			http.Error(w, fmt.Sprintf("name: %q: want the name of a Service, such as native-tools-2", name), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		pod, err := call(ctx, name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, pod)
	}
}

// conn gives the one connection to name, dialling it at the first call.
func (c *clients) conn(name string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[name]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient(fmt.Sprintf("%s:%d", name, c.grpcPort), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c.conns[name] = conn
	return conn, nil
}

func (c *clients) callGRPC(ctx context.Context, name string) (string, error) {
	conn, err := c.conn(name)
	if err != nil {
		return "", err
	}
	reply, err := whoami.NewWhoAmIClient(conn).Whoami(ctx, &whoami.WhoamiRequest{})
	return reply.GetPod(), err
}

func (c *clients) callHTTP(ctx context.Context, name string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", name, c.httpPort), nil)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return strings.TrimSpace(string(body)), nil
}
