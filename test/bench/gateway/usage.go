package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	controller     = "mizzen-controller"
	controllerPort = 15014
)

// process is what a pod of the control plane or of the gateway has used up to a moment.
type process struct {
	pod    string
	at     time.Time
	cpu    time.Duration
	memory float64 // bytes: resident of the control plane, working set of the gateway's container, Envoy and agent
	// Of a gateway: what Envoy has allocated, and the time series of its metrics port.
	allocated float64
	series    int
}

// usage reads all replicas of the control plane and all pods of the gateway, each sorted by name.
func (b *bench) usage(ctx context.Context) (controllers, gateways []process, err error) {
	pods, err := b.Pods(ctx, cluster.SystemNamespace, "app.kubernetes.io/name="+controller)
	if err != nil {
		return nil, nil, err
	}
	for _, pod := range pods {
		body, err := b.metrics(ctx, cluster.Pod{Namespace: pod.Namespace, Name: pod.Name}, controllerPort)
		if err != nil {
			return nil, nil, err
		}
		seconds, err1 := metric(body, "process_cpu_seconds_total")
		memory, err2 := metric(body, "process_resident_memory_bytes")
		if err := errors.Join(err1, err2); err != nil {
			return nil, nil, fmt.Errorf("metrics of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		controllers = append(controllers, process{pod: pod.Name, at: time.Now(), cpu: time.Duration(seconds * 1e9), memory: memory})
	}
	if pods, err = b.Pods(ctx, b.ns, gatewayv1.GatewayNameLabelKey+"="+gatewayName); err != nil {
		return nil, nil, err
	}
	for _, pod := range pods {
		raw, err := b.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/"+pod.Spec.NodeName+"/proxy/stats/summary").Param("only_cpu_and_memory", "true").DoRaw(ctx)
		if err != nil {
			return nil, nil, err
		}
		p, err := containerUsage(raw, pod.Namespace, pod.Name)
		if err != nil {
			return nil, nil, err
		}
		body, err := b.metrics(ctx, cluster.Pod{Namespace: pod.Namespace, Name: pod.Name}, config.AgentPort)
		if err != nil {
			return nil, nil, err
		}
		if p.allocated, err = metric(body, "envoy_server_memory_allocated"); err != nil {
			return nil, nil, fmt.Errorf("metrics of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		p.series = series(body)
		gateways = append(gateways, p)
	}
	byName := func(a, b process) int { return strings.Compare(a.pod, b.pod) }
	slices.SortFunc(controllers, byName)
	slices.SortFunc(gateways, byName)
	return controllers, gateways, nil
}

func (b *bench) metrics(ctx context.Context, pod cluster.Pod, port int) (string, error) {
	status, body, err := b.Get(ctx, pod, port, "metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	if err != nil {
		return "", fmt.Errorf("metrics of pod %s/%s, port %d: %w", pod.Namespace, pod.Name, port, err)
	}
	return string(body), nil
}

// metric is the sum of all series of a name in Prometheus' text format.
func metric(body, name string) (float64, error) {
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndex(rest, "}")+1:])
		if len(fields) == 0 {
			return 0, fmt.Errorf("%q: want a value", line)
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", line, err)
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// series is the number of time series in Prometheus' text format.
func series(body string) int {
	n := 0
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			n++
		}
	}
	return n
}

// containerUsage reads what the kubelet says of a gateway's container.
func containerUsage(summary []byte, namespace, pod string) (process, error) {
	var s struct {
		Pods []struct {
			PodRef     struct{ Name, Namespace string }
			Containers []struct {
				Name string
				CPU  struct {
					Time                 time.Time
					UsageCoreNanoSeconds int64
				}
				Memory struct{ WorkingSetBytes float64 }
			}
		}
	}
	if err := json.Unmarshal(summary, &s); err != nil {
		return process{}, fmt.Errorf("the kubelet's summary: %w", err)
	}
	for _, p := range s.Pods {
		for _, c := range p.Containers {
			if p.PodRef.Namespace == namespace && p.PodRef.Name == pod && c.Name == config.ProxyContainer {
				return process{pod: pod, at: c.CPU.Time, cpu: time.Duration(c.CPU.UsageCoreNanoSeconds), memory: c.Memory.WorkingSetBytes}, nil
			}
		}
	}
	return process{}, fmt.Errorf("the kubelet's summary has no container %s of pod %s/%s", config.ProxyContainer, namespace, pod)
}

// share is the part of a CPU that was used between two moments, in per cent.
func share(before, after process) string {
	if !after.at.After(before.at) {
		return "unknown"
	}
	return fmt.Sprintf("%.1f %%", 100*(after.cpu-before.cpu).Seconds()/after.at.Sub(before.at).Seconds())
}

func mb(bytes float64) string { return fmt.Sprintf("%.0f MB", bytes/1e6) }
