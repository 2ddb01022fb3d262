package main

import (
	"fmt"
	"slices"
	"time"
)

// The kinds of load.
type kind int

const (
	http1 kind = iota
	http2
	grpc    // unary
	echo    // over connections that stay
	connect // an echo on a new connection each time
)

// scenario is one load.
type scenario struct {
	name string
	kind kind
	// size of the answer in bytes.
	size int
	// conns are the client's connections, each with so many requests at a time.
	conns, streams int
	// rate is the offered one, requests a second, at which latency is taken: the machine is about
	// half busy with two bare connection managers.
	rate int
}

var scenarios = []scenario{
	{"HTTP/1.1 1 KB", http1, 1 << 10, 8, 1, 2000},
	{"HTTP/1.1 100 KB", http1, 100 << 10, 8, 1, 800},
	{"HTTP/2 1 KB", http2, 1 << 10, 2, 8, 2000},
	{"HTTP/2 100 KB", http2, 100 << 10, 2, 8, 600},
	{"gRPC unary 64 B", grpc, len(grpcMessage), 2, 8, 2000},
	{"HTTP/1.1 1 KB, 100 connections", http1, 1 << 10, 100, 1, 2000},
	{"gRPC unary 64 B, 100 connections", grpc, len(grpcMessage), 100, 1, 2000},
	{"TCP 64 B", echo, 64, 8, 1, 3000},
	{"TCP 32 KB", echo, 32 << 10, 8, 1, 2000},
	{"TCP connect", connect, 64, 8, 1, 500},
}

func (s scenario) isTCP() bool { return s.kind == echo || s.kind == connect }

func (s scenario) path() string {
	if s.kind == grpc {
		return "/bench.Echo/Say"
	}
	return fmt.Sprintf("/%d", s.size)
}

// sample is one measurement. Times are in microseconds.
type sample struct {
	RPS float64 `json:"rps"`
	// CPU of both Envoys for one request: at full load, and at the fixed rate, where Envoy wakes up
	// for each request by itself.
	CPU       float64 `json:"cpu"`
	CPUAtRate float64 `json:"cpuAtRate"`
	// CPUAlone is the same where one request is made at a time: the least of what varies with the machine.
	CPUAlone float64 `json:"cpuAlone"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
}

// measure offers first as much as the layout takes, then the fixed rate, then one request at a time.
func (s scenario) measure(l *layout, d time.Duration) (sample, error) {
	calls, closeAll, err := s.calls(l.target(s))
	defer closeAll()
	if err != nil {
		return sample{}, err
	}
	if _, err := s.paced(calls, d/20, s.rate); err != nil { // make all connections
		return sample{}, err
	}
	full, cpu, err := window(l, func() (outcome, error) {
		if s.isTCP() {
			return s.paced(calls, d/2, 0)
		}
		return s.h2load(l.target(s), d/2)
	})
	if err != nil {
		return sample{}, err
	}
	paced, cpuAtRate, err := window(l, func() (outcome, error) { return s.paced(calls, d/2, s.rate) })
	if err != nil {
		return sample{}, err
	}
	alone, err := oneByOne(l, calls[0], d/2)
	if err != nil {
		return sample{}, err
	}
	return sample{
		RPS: float64(full.requests) / (d / 2).Seconds(), CPU: cpu, CPUAtRate: cpuAtRate, CPUAlone: alone,
		P50: paced.quantile(0.5), P99: paced.quantile(0.99),
	}, nil
}

// window gives what a load achieved and the Envoys' processor time for one request.
func window(l *layout, load func() (outcome, error)) (outcome, float64, error) {
	before, err := l.cpu()
	if err != nil {
		return outcome{}, 0, err
	}
	out, err := load()
	if err != nil {
		return outcome{}, 0, err
	}
	after, err := l.cpu()
	if err != nil {
		return outcome{}, 0, err
	}
	if out.requests == 0 {
		return outcome{}, 0, fmt.Errorf("no request came through")
	}
	return out, float64(after-before) / 1e3 / float64(out.requests), nil
}

// oneByOne gives the Envoys' processor time for a request when it is the only one, in the tenth part of all batches that
// was disturbed least: what else the machine does makes a batch dearer, and never cheaper.
func oneByOne(l *layout, one call, d time.Duration) (float64, error) {
	const batch = 100
	var all []float64
	for end := time.Now().Add(d); len(all) == 0 || time.Now().Before(end); {
		_, cpu, err := window(l, func() (outcome, error) {
			for range batch {
				if err := one(); err != nil {
					return outcome{}, err
				}
			}
			return outcome{requests: batch}, nil
		})
		if err != nil {
			return 0, err
		}
		all = append(all, cpu)
	}
	slices.Sort(all)
	return all[len(all)/10], nil
}
