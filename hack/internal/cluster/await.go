package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/components"
	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
)

const (
	startLimit = 2 * time.Minute
	poll       = 100 * time.Millisecond
	// tooManyRestarts is the number of restarts after which an unready component counts as failed before the time
	// limit. One or two are normal while other components are starting.
	tooManyRestarts = 5
)

// bootstrap waits for the components of a new cluster one by one. In between it adds the objects that a kubeadm cluster
// has from the start.
func (c Cluster) bootstrap(spec supervisor.Spec) error {
	if err := c.awaitComponent("containerd"); err != nil {
		return err
	}
	archive := c.State("pause.tar")
	if err := ociimage.FromBinary(archive, components.PauseImage, filepath.Join(spec.Tools["pause"], "pause")); err != nil {
		return fmt.Errorf("write sandbox image: %w", err)
	}
	if err := c.importImage(spec, archive); err != nil {
		return fmt.Errorf("import sandbox image: %w", err)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := c.awaitComponent(name); err != nil {
			return err
		}
	}
	kubectl := filepath.Join(spec.Tools["kube"], "kubectl")
	// The first tries may come before the API server has its own Services and roles.
	err := proc.Eventually(30*time.Second, time.Second, func() error {
		_, err := proc.Run(kubectl, "--kubeconfig", c.Kubeconfig(), "apply", "-f", c.State("config", "bootstrap.yaml"))
		return err
	})
	if err != nil {
		return fmt.Errorf("apply %s: %w", c.State("config", "bootstrap.yaml"), err)
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "coredns", "kubelet", "kube-proxy", "load-balancer"} {
		if err := c.awaitComponent(name); err != nil {
			return err
		}
	}
	return nil
}

// awaitComponent waits until the supervisor reports that a component is ready.
func (c Cluster) awaitComponent(name string) error {
	deadline := time.Now().Add(startLimit)
	for {
		status, err := supervisor.ReadJSON[supervisor.Status](supervisor.StatusFile(c.Layout))
		started := err == nil
		for _, s := range status.Components {
			switch {
			case s.Name != name:
			case s.Ready:
				c.Log.Printf("%s ready", name)
				return nil
			case s.Restarts >= tooManyRestarts:
				return c.failed(name, fmt.Errorf("it ended %d times, the last time with: %s", s.Restarts, s.LastExit))
			}
		}
		if started && !status.Supervisor.Alive() {
			return c.failed("supervisor", errors.New("it ended"))
		}
		if time.Now().After(deadline) {
			if !started {
				name = "supervisor"
			}
			return c.failed(name, fmt.Errorf("not ready after %s", startLimit))
		}
		time.Sleep(poll)
	}
}

// failed returns an error with the end of the component's log.
func (c Cluster) failed(component string, err error) error {
	log := c.LogFile(component)
	return fmt.Errorf("start of %s: %w\nlog: %s\n%s", component, err, log, progress.Tail(log, 15))
}

// await waits until the cluster as a whole works.
func (c Cluster) await(spec supervisor.Spec) error {
	api, err := newAPI(c.Layout, spec.Network)
	if err != nil {
		return err
	}
	for _, check := range []struct {
		what, component string
		f               func() error
	}{
		{"node Ready", "kubelet", api.nodeReady},
		{"default service account exists", "kube-controller-manager", func() error {
			return api.get("/api/v1/namespaces/default/serviceaccounts/default", nil)
		}},
		// From the host, through the ClusterIP: shows kube-proxy and the routes as well.
		{"cluster DNS answers", "coredns", func() error { return resolves(spec.Network) }},
	} {
		if err := proc.Eventually(startLimit, poll, check.f); err != nil {
			return c.failed(check.component, fmt.Errorf("waited %s for: %s: %w", startLimit, check.what, err))
		}
		c.Log.Printf("%s", check.what)
	}
	return nil
}

// resolves asks the cluster's DNS for the API server's Service.
func resolves(n layout.Network) error {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(n.DNS4.String(), "53"))
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	addrs, err := r.LookupHost(ctx, "kubernetes.default.svc."+layout.ClusterDomain+".")
	if err == nil && (len(addrs) != 1 || addrs[0] != n.API4.String()) {
		err = fmt.Errorf("it says %v, not %s", addrs, n.API4)
	}
	return err
}

// api is a minimal Kubernetes client, because kubectl takes half a second of CPU for each call.
type api struct {
	client http.Client
	server string
}

func newAPI(l layout.Layout, n layout.Network) (*api, error) {
	pair, err := tls.LoadX509KeyPair(l.State("pki", "admin.crt"), l.State("pki", "admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(l.State("pki", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &api{server: n.APIServer(), client: http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
	}}, nil
}

func (a *api) get(path string, into any) error {
	resp, err := a.client.Get(a.server + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (a *api) nodeReady() error {
	var n struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := a.get("/api/v1/nodes/"+layout.NodeName, &n); err != nil {
		return err
	}
	message := "no condition yet"
	for _, cond := range n.Status.Conditions {
		if cond.Type == "Ready" {
			if cond.Status == "True" {
				return nil
			}
			message = cond.Message
		}
	}
	return errors.New(message)
}
