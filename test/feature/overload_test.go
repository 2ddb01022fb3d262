package feature

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// A server that reads nothing and clients that send much: a sidecar whose container has a memory limit stays below it, answers what is
// too much itself, with the reason, and is as before when it is over.
func TestOverload(t *testing.T) {
	const limit, calls, size, rate = 128 << 20, 4000, 64 << 10, 500
	release := make(chan struct{})
	serveHTTP(t, "10.244.0.5:8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			<-release
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "ok")
	}))
	w := newMesh(t, map[string]service{"web": {ips: []string{"10.96.0.90"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}},
		func(w *testMesh) { w.memory = limit }, twoWorkers)
	free := func() error {
		res, err := client(t, false).Get("http://10.96.0.90/")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != 200 {
			return fmt.Errorf("status %d", res.StatusCode)
		}
		return nil
	}
	w.must(free())
	body := bytes.Repeat([]byte("x"), size)
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	var sent, shed, reset atomic.Int64
	reasons := sync.Map{}
	for range 10 {
		c := client(t, true)
		for i := range calls / 10 {
			sending.Go(func() {
				select {
				case <-time.After(time.Duration(i) * 10 * time.Second / rate):
				case <-ctx.Done():
					return
				}
				sent.Add(1)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://10.96.0.90/stuck", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				res, err := c.Do(req)
				switch {
				case err == nil:
					shed.Add(1)
					reasons.Store(res.Header.Get(envoy.AnswerHeader), true)
					res.Body.Close()
				case ctx.Err() == nil:
					reset.Add(1)
				}
			})
		}
	}
	most := 0
	for sent.Load() < calls { // each call is on its way, answered or held
		most = max(most, resident(t, w.envoy.PID()))
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	close(release)
	sending.Wait()
	report("%d calls with %d kB each to a server that reads nothing: at most %d MB resident of %d, %d answered, %d reset",
		calls, size>>10, most>>20, limit>>20, shed.Load(), reset.Load())
	if most > limit {
		t.Errorf("%d MB, the container has %d", most>>20, limit>>20)
	}
	reasons.Range(func(reason, _ any) bool {
		if !strings.HasSuffix(reason.(string), `details="overloaded"`) {
			t.Errorf("answered: %s", reason)
		}
		return true
	})
	if shed.Load() == 0 {
		t.Error("no call was answered by the sidecar")
	}
	deadline := time.Now().Add(20 * time.Second)
	for err := free(); err != nil; err = free() {
		if time.Now().After(deadline) {
			t.Fatalf("when it is over: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// resident returns the anonymous memory of a process in bytes: of the pages of its program the kernel takes back what it needs.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb := 0
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}
