package ctl

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const (
	// parallelAsks bounds the number of concurrently forwarded ports, each of which is a connection through API server
	// and kubelet.
	parallelAsks = 16
	// progressEvery is the interval of progress messages.
	progressEvery = 3 * time.Second
)

// heard is an agent's answer about callers, or the error.
type heard struct {
	agentapi.PlainText
	err error
}

// askAll asks pods for their callers.
func askAll(ctx context.Context, a agents, pods []*podInfo, stderr io.Writer) map[mesh.Key]heard {
	return askEach(pods, stderr, func(p *podInfo) heard {
		var h heard
		h.err = a.ask(ctx, p.Key, agentapi.PlainTextPath, &h.PlainText)
		return h
	})
}

// askEach asks several pods at a time. It reports progress on stderr if it takes long.
func askEach[T any](pods []*podInfo, stderr io.Writer, ask func(*podInfo) T) map[mesh.Key]T {
	var mu sync.Mutex
	out := map[mesh.Key]T{}
	work := make(chan *podInfo)
	var asking sync.WaitGroup
	for range min(parallelAsks, len(pods)) {
		asking.Go(func() {
			for p := range work {
				answer := ask(p)
				mu.Lock()
				out[p.Key] = answer
				mu.Unlock()
			}
		})
	}
	asked := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(out)
	}
	stop := tell(progressEvery, func() {
		_, _ = fmt.Fprintf(stderr, "asked %d of %s\n", asked(), plural(len(pods), "pod"))
	})
	for _, p := range pods {
		work <- p
	}
	close(work)
	asking.Wait()
	stop()
	return out
}

// tell calls f repeatedly until stop is called.
func tell(every time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		telling.Wait()
	}
}
