package load

import (
	"crypto/tls"
	"fmt"
	"slices"
	"time"
)

// Kind is one of load.
type Kind int

// The kinds of load.
const (
	HTTP1 Kind = iota
	HTTP2
	GRPC      // unary
	HTTP1Once // HTTP/1.1 on a new connection each time
	Echo      // over connections that stay
	Connect   // an echo on a new connection each time
)

// Scenario is one load.
type Scenario struct {
	Name string
	Kind Kind
	// Size of the answer in bytes.
	Size int
	// Conns are the client's connections, each with so many requests at a time.
	Conns, Streams int
	// Rate is the offered one, requests a second, at which latency is taken.
	Rate int
}

// Target is where a load goes.
type Target struct {
	// Address is host:port.
	Address string
	// Host is what HTTP requests name, the address if it is empty.
	Host string
	// TLS is how the server is called, plainly if it is nil.
	TLS *tls.Config
}

// TCP tells whether the load is of bytes.
func (s Scenario) TCP() bool { return s.Kind == Echo || s.Kind == Connect }

func (s Scenario) url(t Target) string {
	scheme, host, path := "http", t.Host, fmt.Sprintf("/%d", s.Size)
	if t.TLS != nil {
		scheme = "https"
	}
	if host == "" {
		host = t.Address
	}
	if s.Kind == GRPC {
		path = "/bench.Echo/Say"
	}
	return scheme + "://" + host + path
}

// Sample is one measurement. Times are in microseconds.
type Sample struct {
	RPS float64 `json:"rps"`
	// CPU of all proxies for one request: at full load, and at the fixed rate, where a proxy wakes up
	// for each request by itself.
	CPU       float64 `json:"cpu"`
	CPUAtRate float64 `json:"cpuAtRate"`
	// CPUAlone is the same where one request is made at a time: the least of what varies with the machine.
	CPUAlone float64 `json:"cpuAlone"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
}

// Proxy is a process whose processor time counts.
type Proxy interface{ CPU() (time.Duration, error) }

// CPU returns the processor time that all proxies have had.
func CPU[P Proxy](proxies []P) (time.Duration, error) {
	var sum time.Duration
	for _, p := range proxies {
		t, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// Measure offers first as much as the target takes, then the fixed rate, then one request at a time.
func Measure[P Proxy](s Scenario, t Target, proxies []P, d time.Duration) (Sample, error) {
	calls, closeAll, err := s.calls(t)
	defer closeAll()
	if err != nil {
		return Sample{}, err
	}
	if _, err := paced(calls, d/20, s.Rate); err != nil { // make all connections
		return Sample{}, err
	}
	full, cpu, err := window(proxies, func() (Outcome, error) {
		if s.TCP() || s.Kind == HTTP1Once {
			return paced(calls, d/2, 0)
		}
		return s.h2load(t, d/2)
	})
	if err != nil {
		return Sample{}, err
	}
	atRate, cpuAtRate, err := window(proxies, func() (Outcome, error) { return paced(calls, d/2, s.Rate) })
	if err != nil {
		return Sample{}, err
	}
	alone, err := oneByOne(proxies, calls[0], d/2)
	if err != nil {
		return Sample{}, err
	}
	return Sample{
		RPS: float64(full.Requests) / (d / 2).Seconds(), CPU: cpu, CPUAtRate: cpuAtRate, CPUAlone: alone,
		P50: atRate.Quantile(0.5), P99: atRate.Quantile(0.99),
	}, nil
}

// window gives what a load achieved and the proxies' processor time for one request.
func window[P Proxy](proxies []P, load func() (Outcome, error)) (Outcome, float64, error) {
	before, err := CPU(proxies)
	if err != nil {
		return Outcome{}, 0, err
	}
	out, err := load()
	if err != nil {
		return Outcome{}, 0, err
	}
	after, err := CPU(proxies)
	if err != nil {
		return Outcome{}, 0, err
	}
	if out.Requests == 0 {
		return Outcome{}, 0, fmt.Errorf("no request came through")
	}
	return out, float64(after-before) / 1e3 / float64(out.Requests), nil
}

// oneByOne gives the proxies' processor time for a request when it is the only one, in the tenth part of all batches that
// was disturbed least: what else the machine does makes a batch dearer, and never cheaper.
func oneByOne[P Proxy](proxies []P, one Call, d time.Duration) (float64, error) {
	const batch = 100
	var all []float64
	for end := time.Now().Add(d); len(all) == 0 || time.Now().Before(end); {
		_, cpu, err := window(proxies, func() (Outcome, error) {
			for range batch {
				if err := one(); err != nil {
					return Outcome{}, err
				}
			}
			return Outcome{Requests: batch}, nil
		})
		if err != nil {
			return 0, err
		}
		all = append(all, cpu)
	}
	slices.Sort(all)
	return all[len(all)/10], nil
}
