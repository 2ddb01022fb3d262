package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const (
	// agentTimeout bounds one request to one pod.
	agentTimeout = 15 * time.Second
	// maxAgentAnswer bounds the size of an agent's answer, in bytes. The answer is only as trustworthy as the pod.
	maxAgentAnswer = 1 << 20
	// maxPage bounds a page of a replica of the control plane, which has some 1 kB for each proxy, and maxAgentPage one of an agent,
	// whose metrics have some 5 kB for each Service that is called.
	maxPage, maxAgentPage = 64 << 20, 8 << 20
	// maxLogLines and maxLog bound a log, in lines and bytes.
	maxLogLines, maxLog = 10_000, 5 << 20
)

// agents requests the pages that are served on pods' loopback: those of the sidecars' agents (internal/agentapi), and of the control plane.
type agents interface {
	// ask reads a page of an agent.
	ask(ctx context.Context, pod mesh.Key, path string, into any) error
	// page returns any page of a port.
	page(ctx context.Context, pod mesh.Key, port int, path string) ([]byte, error)
	// log returns the end of a container's log, or of that from before its last restart.
	log(ctx context.Context, pod mesh.Key, container string, previous bool) ([]byte, error)
}

// agentConnector returns the agents of the cluster that the flags name.
type agentConnector func(*clusterFlags) (agents, error)

// connectAgents is the agentConnector that forwards ports, as kubectl port-forward does.
func (f *clusterFlags) connectAgents() (agents, error) {
	cfg, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	cfg.Timeout = 0 // a forwarded port is one long request
	pods, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &forwardedAgents{config: cfg, core: pods}, nil
}

type forwardedAgents struct {
	config *rest.Config
	core   typedcorev1.CoreV1Interface
}

func (a *forwardedAgents) ask(ctx context.Context, pod mesh.Key, path string, into any) error {
	return a.through(ctx, pod, config.AgentPort, func(ctx context.Context, address string) error {
		return askAgent(ctx, "http://"+address+path, into)
	})
}

func (a *forwardedAgents) page(ctx context.Context, pod mesh.Key, port int, path string) (body []byte, err error) {
	most := int64(maxPage)
	if port == config.AgentPort {
		most = maxAgentPage
	}
	err = a.through(ctx, pod, port, func(ctx context.Context, address string) error {
		var status int
		if status, body, err = fetch(ctx, "http://"+address+path, most); err == nil && status != http.StatusOK {
			err = fmt.Errorf("answered %d: %s", status, printable(strings.TrimSpace(string(body))))
		}
		return err
	})
	return body, err
}

func (a *forwardedAgents) log(ctx context.Context, pod mesh.Key, container string, previous bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	return a.core.Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container: container, Previous: previous, TailLines: new(int64(maxLogLines)), LimitBytes: new(int64(maxLog)),
	}).DoRaw(ctx)
}

// through calls f with a local address that is forwarded to a pod's port.
func (a *forwardedAgents) through(ctx context.Context, pod mesh.Key, port int, f func(ctx context.Context, address string) error) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	failure := &forwardFailure{}
	address, err := a.forward(klog.NewContext(ctx, logr.New(failure)), pod, port)
	if err == nil {
		err = f(ctx, address)
	}
	switch why := failure.get(); {
	case err == nil:
		return nil
	case why != nil: // the end of the connection is only what follows from it
		return fmt.Errorf("port %d: %w", port, why)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", agentTimeout)
	}
	return err
}

// forward returns a local address that is forwarded to a pod's port until ctx ends.
func (a *forwardedAgents) forward(ctx context.Context, pod mesh.Key, port int) (string, error) {
	url := a.core.RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(a.config)
	if err != nil {
		return "", err
	}
	overWebSocket, err := portforward.NewSPDYOverWebsocketDialerForStreamingWithLogger(klog.FromContext(ctx), url, a.config)
	if err != nil {
		return "", err
	}
	// API servers before Kubernetes 1.30 speak only SPDY.
	dialer := portforward.NewFallbackDialerForStreaming(overWebSocket, spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url),
		func(err error) bool { return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err) })
	ready, ended := make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewOnAddressesForStreamingWithContext(ctx, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, ready, nil, nil)
	if err != nil {
		return "", err
	}
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		return "", err
	case <-ctx.Done(): // dialling knows no context; what comes of it ends by itself
		return "", ctx.Err()
	}
	ports, err := f.GetPorts()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), nil
}

// fetch returns the status and the body of a page.
func fetch(ctx context.Context, url string, most int64) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy of the environment
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = fmt.Errorf("the answer has more than %d bytes", most)
	}
	return res.StatusCode, body, err
}

func askAgent(ctx context.Context, url string, into any) error {
	status, body, err := fetch(ctx, url, maxAgentAnswer)
	switch {
	case err != nil:
		return fmt.Errorf("agent: %w", err)
	case status == http.StatusNotFound:
		return errors.New("the agent does not have this page: its sidecar has an older version, or no identity")
	case status != http.StatusOK:
		return fmt.Errorf("the agent answered %d: %s", status, printable(strings.TrimSpace(string(body))))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("cannot read the agent's answer: %w", err)
	}
	return nil
}

// forwardFailure records the library's error about a forwarded port.
type forwardFailure struct {
	mu  sync.Mutex
	err error
}

func (f *forwardFailure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Error implements the log sink.
func (f *forwardFailure) Error(err error, _ string, _ ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *forwardFailure) Init(logr.RuntimeInfo)          {}
func (f *forwardFailure) Enabled(int) bool               { return false }
func (f *forwardFailure) Info(int, string, ...any)       {}
func (f *forwardFailure) WithValues(...any) logr.LogSink { return f }
func (f *forwardFailure) WithName(string) logr.LogSink   { return f }
