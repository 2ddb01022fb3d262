package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// part is one that needs a cluster.
type part struct {
	name string
	run  func(ctx context.Context, b *bench) ([]figure, error)
}

var clusterParts = []part{{"attached", attached}, {"probe", probe}, {"change", change}, {"scale", scale}}

const (
	// label marks the namespaces of this benchmark.
	label        = "mizzen-bench"
	labelValue   = "gateway"
	readyTimeout = 3 * time.Minute
	// cleanupTimeout bounds the removal of what a part made.
	cleanupTimeout = 10 * time.Minute
)

// testImage is the image of test/e2e/testapp.
var testImage = cmp.Or(os.Getenv("MIZZEN_TEST_IMAGE"), "mizzen-test/app:dev")

// bench is a part that runs. Its Gateway and server are in namespace ns.
type bench struct {
	*cluster.Cluster
	options
	ns  string
	log func(format string, args ...any)
}

// measureOnCluster runs the parts that are asked for and need a cluster, and prints the figures of each.
func measureOnCluster(ctx context.Context, o options) error {
	chosen := slices.DeleteFunc(slices.Clone(clusterParts), func(p part) bool { return !slices.Contains(o.only, p.name) })
	if len(chosen) == 0 {
		return nil
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	began := time.Now()
	log := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "[%6.1fs] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	if err := c.InstallExperimentalGatewayAPI(ctx); err != nil {
		return fmt.Errorf("the Gateway API's CRDs: %w", err)
	}
	if err := c.InstallMizzen(ctx); err != nil {
		return err
	}
	log("Mizzen is installed")
	for _, p := range chosen {
		b := &bench{Cluster: c, options: o, ns: "mizzen-gateway-" + p.name, log: log}
		figures, err := b.only(ctx, p)
		if len(figures) > 0 {
			err = errors.Join(err, writeFigures(os.Stdout, p.name, figures))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// only runs a part and removes what it has made, and before what a killed run may have left.
func (b *bench) only(ctx context.Context, p part) (figures []figure, err error) {
	if err := b.clear(ctx); err != nil {
		return nil, err
	}
	defer func() {
		b.log("%s: removing the namespaces", p.name)
		err = errors.Join(err, b.clear(context.WithoutCancel(ctx)))
	}()
	b.log("%s", p.name)
	return p.run(ctx, b)
}

// clear removes all namespaces of this benchmark, with all that is in them.
func (b *bench) clear(ctx context.Context) error {
	return b.DeleteNamespaces(ctx, label+"="+labelValue, cleanupTimeout)
}

// namespace makes one of this benchmark.
func (b *bench) namespace(ctx context.Context, name string, labels map[string]string) error {
	all := map[string]string{label: labelValue}
	maps.Copy(all, labels)
	return b.CreateNamespace(ctx, name, all)
}

// begin makes the namespace with a Gateway and a server of so many pods, and returns the Gateway's address.
func (b *bench) begin(ctx context.Context, gateway string, pods int, labels map[string]string) (address string, err error) {
	if err := b.namespace(ctx, b.ns, labels); err != nil {
		return "", err
	}
	if err := b.Apply(ctx, b.ns, fmt.Sprintf(server, pods, testImage)+"---"+gateway); err != nil {
		return "", err
	}
	if err := b.WaitDeployment(ctx, b.ns, serverName, readyTimeout); err != nil {
		return "", err
	}
	address, err = b.GatewayAddress(ctx, b.ns, gatewayName, readyTimeout)
	if err == nil {
		err = b.WaitDeployment(ctx, b.ns, gatewayName+"-mizzen", readyTimeout)
	}
	b.log("the gateway listens at %s", address)
	return address, err
}

// follow notes every event of a kind in statuses until ctx ends. An error ends up in failed.
func (b *bench) follow(ctx context.Context, kind string, resource schema.GroupVersionResource, s *statuses, failed chan<- error) error {
	client := b.Dynamic.Resource(resource) // of all namespaces
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ours := func(o *unstructured.Unstructured) bool { return strings.HasPrefix(o.GetNamespace(), b.ns) }
	for i := range list.Items {
		if o := &list.Items[i]; ours(o) {
			if err := s.note(kind, watch.Event{Type: watch.Added, Object: o}, time.Now()); err != nil {
				return err
			}
		}
	}
	// The API server ends watches whose client is slow, as one is beside a load.
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: client.Watch,
	})
	if err != nil {
		return err
	}
	go func() {
		defer w.Stop()
		for event := range w.ResultChan() {
			if o, ok := event.Object.(*unstructured.Unstructured); ok && !ours(o) {
				continue
			}
			if err := s.note(kind, event, time.Now()); err != nil {
				failed <- err
				return
			}
		}
		if ctx.Err() == nil {
			failed <- fmt.Errorf("the watch of kind %s has ended", kind)
		}
	}()
	return nil
}

// makeRoute creates a route.
func (b *bench) makeRoute(ctx context.Context, r *unstructured.Unstructured) error {
	_, err := b.Dynamic.Resource(httpRoutes).Namespace(r.GetNamespace()).Create(ctx, r, metav1.CreateOptions{})
	return err
}

// dialer connects to a port of the gateway whatever host is asked for.
func dialer(address string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, net.JoinHostPort(address, port))
	}
}

// ask returns the status of an answer, and a header of it.
func ask(ctx context.Context, client *http.Client, url, header string) (status int, value string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header.Get(header), err
}
