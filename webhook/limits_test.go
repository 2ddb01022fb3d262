package webhook

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

// One address cannot take the turns of the others, nor all of them.
func TestTurns(t *testing.T) {
	turns := newTurns()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var leave []func()
	enter := func(address string) {
		t.Helper()
		l, ok := turns.Wait(t.Context(), netlimit.Client(address))
		if !ok {
			t.Fatalf("%s has no turn", address)
		}
		leave = append(leave, l)
	}
	for range admissionsOfAddress {
		enter("10.0.0.1:1")
	}
	if _, ok := turns.Wait(ended, netlimit.Client("10.0.0.1:2")); ok {
		t.Error("an address has more than its turns")
	}
	for range admissionsAtOnce - admissionsOfAddress {
		enter("[fd00::1]:1")
	}
	if _, ok := turns.Wait(ended, netlimit.Client("10.0.0.3:1")); ok {
		t.Error("more are worked on than may be")
	}
	waits := make(chan bool)
	go func() {
		l, ok := turns.Wait(t.Context(), netlimit.Client("10.0.0.3:1"))
		if ok {
			l()
		}
		waits <- ok
	}()
	for _, l := range leave {
		l()
	}
	if !<-waits {
		t.Error("who waits gets no turn")
	}
	if turns.Len() > 0 {
		t.Errorf("%d left behind", turns.Len())
	}
}

func TestTooManyAdmissions(t *testing.T) {
	r := newRig(t)
	e := r.Handler.(*endpoint)
	const client = "192.0.2.1:1234" // httptest's
	done, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	for range waitingOfAddress {
		wg.Go(func() {
			if leave, ok := e.turns.Wait(done, netlimit.Client(client)); ok {
				<-done.Done()
				leave()
			}
		})
	}
	for e.turns.Len() < waitingOfAddress {
		runtime.Gosched()
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path, strings.NewReader("{}")))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "try again") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if n := testutil.ToFloat64(e.refused.WithLabelValues("busy")); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

// The duration of an admission includes the wait for its turn. Requests refused before admission are not observed.
func TestAdmissionDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		e := r.Handler.(*endpoint)
		check := func(count uint64, sum time.Duration) {
			t.Helper()
			var m dto.Metric
			if err := e.duration.Write(&m); err != nil {
				t.Fatal(err)
			}
			if h := m.GetHistogram(); h.GetSampleCount() != count || h.GetSampleSum() != sum.Seconds() {
				t.Errorf("%d requests took %v s, want %d, %v s", h.GetSampleCount(), h.GetSampleSum(), count, sum.Seconds())
			}
		}
		r.send(http.MethodPost, "text/plain", "{}")
		check(0, 0)
		r.post(t, "[]", nil) // an error is an answer, too
		check(1, 0)

		for range admissionsOfAddress {
			leave, ok := e.turns.Wait(t.Context(), netlimit.Client("192.0.2.1:1")) // httptest's client
			if !ok {
				t.Fatal("no turn")
			}
			time.AfterFunc(3*time.Second, leave)
		}
		r.post(t, plainPod, nil)
		check(2, 3*time.Second)
	})
}

// A body that does not come gives its turn back.
func TestSlowBody(t *testing.T) {
	r := newRig(t)
	e := r.Handler.(*endpoint)
	e.bodyTime = 50 * time.Millisecond
	server := httptest.NewServer(e)
	defer server.Close()
	body, end := io.Pipe()
	defer end.Close()
	res, err := http.Post(server.URL+Path, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if why, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(why), "within 50ms") {
		t.Errorf("%d %s", res.StatusCode, why)
	}
	if n := testutil.ToFloat64(e.refused.WithLabelValues("slow")); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

// Whoever calls the webhook can have events written, but not without end.
func TestEventsAreBounded(t *testing.T) {
	r := newRig(t)
	e := r.Handler.(*endpoint)
	written := make(chan string, 1000)
	e.webhooks[Path].Handler.(*injector).Recorder = &events.FakeRecorder{Events: written}
	const pod = `{"metadata":{"name":"a"},"spec":{"hostNetwork":true,"containers":[{"name":"a"}]}}`
	for range 1000 {
		if response := r.post(t, pod, nil); !response.Allowed {
			t.Fatal("refused")
		}
	}
	if n := len(written); n < 100 || n > 500 {
		t.Errorf("%d events of 1000 skips", n)
	}
}
