package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	deployment  = "mizzen-controller"
	xdsPort     = "15010"
	statusPort  = "15014"
	sampleEvery = 200 * time.Millisecond
)

// controller is the one replica under test, reached at its pod's address: the embedded cluster routes
// the host to its pods.
type controller struct {
	*cluster.Cluster
	ip string
}

// usage is what the process has used up to a moment.
type usage struct {
	cpu      float64 // seconds
	memory   float64 // resident bytes
	services int     // published
}

// install puts the chart of the checkout with one replica into the cluster.
func install(ctx context.Context, c *cluster.Cluster) (*controller, error) {
	ctl := &controller{Cluster: c}
	// The simulated sidecars are no pods, and nobody would give them certificates.
	if err := c.InstallMizzen(ctx, "controller.replicas=1", "controller.shutdownDelaySeconds=0", "mesh.identity.enabled=false"); err != nil {
		return nil, err
	}
	return ctl, ctl.find(ctx)
}

// restart gives a fresh process, so that no measurement finds the memory of the one before.
func (c *controller) restart(ctx context.Context) error {
	if err := c.Restart(ctx, cluster.SystemNamespace, deployment); err != nil {
		return err
	}
	if err := c.WaitDeployment(ctx, cluster.SystemNamespace, deployment, 2*time.Minute); err != nil {
		return err
	}
	return c.find(ctx)
}

// find waits until the pod of the replica is the only one, and reachable.
func (c *controller) find(ctx context.Context) error {
	return cluster.Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
		pods, err := c.Pods(ctx, cluster.SystemNamespace, "app.kubernetes.io/name="+deployment)
		if err != nil {
			return "", err
		}
		if len(pods) != 1 {
			return fmt.Sprintf("%d pods of the controller in %s, want 1", len(pods), cluster.SystemNamespace), nil
		}
		c.ip = pods[0].Status.PodIP
		_, unreachable := c.usage(ctx)
		if unreachable == nil {
			return "", nil
		}
		return "its metrics, at the pod's address, which must be routed to: " + unreachable.Error(), nil
	})
}

func (c *controller) usage(ctx context.Context) (usage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.ip+":"+statusPort+"/metrics", nil)
	if err != nil {
		return usage{}, err
	}
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return usage{}, err
	}
	defer func() { _ = res.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		return usage{}, err
	}
	cpu, memory, services := families["process_cpu_seconds_total"], families["process_resident_memory_bytes"], families["mizzen_mesh_services"]
	if cpu == nil || memory == nil || services == nil {
		return usage{}, errors.New("no process_cpu_seconds_total, process_resident_memory_bytes or mizzen_mesh_services")
	}
	return usage{
		cpu: cpu.Metric[0].GetCounter().GetValue(), memory: memory.Metric[0].GetGauge().GetValue(),
		services: int(services.Metric[0].GetGauge().GetValue()),
	}, nil
}

// spent is what the controller used while something was done, and what the load generator and all others
// on the machine used beside it.
type spent struct{ cpu, peak, after, load, others float64 }

// during tells what the controller used while f ran.
func (c *controller) during(ctx context.Context, f func() error) (spent, error) {
	before, err := c.usage(ctx)
	if err != nil {
		return spent{}, err
	}
	all0, own0, err := machineCPU()
	if err != nil {
		return spent{}, err
	}
	if err := f(); err != nil {
		return spent{}, err
	}
	after, err := c.usage(ctx)
	if err != nil {
		return spent{}, err
	}
	all, own, err := machineCPU()
	out := spent{cpu: after.cpu - before.cpu, peak: max(before.memory, after.memory), after: after.memory, load: own - own0}
	out.others = max(0, all-all0-out.cpu-out.load)
	return out, err
}

// sampled is during with the peak of the memory in between. The samples cost some CPU themselves.
func (c *controller) sampled(ctx context.Context, f func() error) (spent, error) {
	stop := make(chan struct{})
	var peak float64
	var sampling sync.WaitGroup
	sampling.Go(func() { peak = c.peak(ctx, stop) })
	out, err := c.during(ctx, f)
	close(stop)
	sampling.Wait()
	out.peak = max(out.peak, peak)
	return out, err
}

// peak samples resident memory until stop is closed. A sample that fails is one less.
func (c *controller) peak(ctx context.Context, stop <-chan struct{}) float64 {
	most := 0.0
	for {
		if u, err := c.usage(ctx); err == nil {
			most = max(most, u.memory)
		}
		select {
		case <-stop:
			return most
		case <-time.After(sampleEvery):
		}
	}
}
