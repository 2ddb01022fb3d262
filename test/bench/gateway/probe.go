package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// What is wanted of a new route: so long until it answers.
const wantP50, wantProbeP99 = 100 * time.Millisecond, 300 * time.Millisecond

const (
	// probeEvery is how often a route is asked whether it answers.
	probeEvery = 2 * time.Millisecond
	// probeTimeout is when a route that does not is given up.
	probeTimeout = 30 * time.Second
	// firstAndLast is how many routes the first and the last ones are.
	firstAndLast = 100
)

// probe makes routes one by one, and asks each until it answers.
func probe(ctx context.Context, b *bench) ([]figure, error) {
	address, err := b.begin(ctx, plainGateway, 1, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer(address)}, Timeout: 10 * time.Second}
	// The nodes learn the address after the status has it.
	err = cluster.Poll(ctx, readyTimeout, func(ctx context.Context) (string, error) {
		if status, _, err := ask(ctx, client, "http://nobody.example.com/", ""); err != nil || status != http.StatusNotFound {
			return fmt.Sprintf("%s: status %d, error %v", address, status, err), nil
		}
		return "", nil
	})
	if err != nil {
		return nil, err
	}
	answers := map[int]int{}
	failed := func(host string, err error) { b.log("%s: no answer: %s", host, err) }
	var times []time.Duration
	for i := range b.probe {
		r := route(b.ns, fmt.Sprintf("route-%04d", i), b.ns, hostOf(i), serverName, httpPort)
		if err := b.makeRoute(ctx, r); err != nil {
			return nil, err
		}
		took, err := firstAnswer(ctx, client, hostOf(i), answers, failed)
		if err != nil {
			return nil, err
		}
		times = append(times, took)
		if (i+1)%500 == 0 {
			b.log("%d routes, answers %s", i+1, counts(answers))
		}
	}
	return probeFigures(times, answers), nil
}

// firstAnswer asks until the answer is 200 and returns how long that took from now. It counts the answers by their status; one
// that does not come is 0, and told.
func firstAnswer(ctx context.Context, client *http.Client, host string, answers map[int]int, failed func(string, error)) (time.Duration, error) {
	start := time.Now()
	for {
		status, _, err := ask(ctx, client, "http://"+host+"/", "")
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			status = 0
			failed(host, err)
		}
		answers[status]++
		took := time.Since(start)
		switch {
		case status == http.StatusOK:
			return took, nil
		case took > probeTimeout:
			return 0, fmt.Errorf("%s: status %d, error %w, %s after its route was made", host, status, err, probeTimeout)
		}
		if err := sleep(ctx, probeEvery); err != nil {
			return 0, err
		}
	}
}

func probeFigures(times []time.Duration, answers map[int]int) []figure {
	first, last := times[:min(len(times), firstAndLast)], times[max(0, len(times)-firstAndLast):]
	var out []figure
	for _, which := range []struct {
		name  string
		times []time.Duration
	}{{fmt.Sprintf("all %d routes", len(times)), times}, {"the first 100", first}, {"the last 100", last}} {
		out = append(out,
			most(which.name+": the first 200 after, p50", quantile(which.times, 0.5), wantP50),
			most(which.name+": p99", quantile(which.times, 0.99), wantProbeP99))
	}
	others := 0
	for status, n := range answers {
		if status != http.StatusOK && status != http.StatusNotFound {
			others += n
		}
	}
	return append(out, none("answers but 404 and 200", others, " ("+counts(answers)+")"))
}

// counts shows how often there was each status.
func counts(answers map[int]int) string {
	var out []string
	for _, status := range slices.Sorted(maps.Keys(answers)) {
		name := fmt.Sprint(status)
		if status == 0 {
			name = "none"
		}
		out = append(out, fmt.Sprintf("%s: %d", name, answers[status]))
	}
	return strings.Join(out, ", ")
}
