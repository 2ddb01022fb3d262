package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// The kubelet's probe hears the reason in words, and an answer as soon as the sidecar is ready.
func TestHealth(t *testing.T) {
	addr := listentest.FreeAddress(t)
	r := start(t, addr, nil)
	conn, err := grpc.NewClient("passthrough:"+strings.TrimPrefix(r.base, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := healthv1.NewHealthClient(conn)
	_, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	want := "waiting for the control plane (" + addr + "): not connected"
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), want) {
		t.Errorf("without a control plane: %v, want code Unavailable and %q", err, want)
	}
	cp := startControlPlane(t, addr)
	cp.send(clusterType)
	cp.send(listenerType)
	eventually(t, func() bool {
		var res *healthv1.HealthCheckResponse
		res, err = client.Check(t.Context(), &healthv1.HealthCheckRequest{})
		return res.GetStatus() == healthv1.HealthCheckResponse_SERVING
	}, func() string { return "with a control plane: " + err.Error() })
	if code, _ := r.get("/startupz"); code != 200 {
		t.Errorf("/startupz: %d, want 200", code)
	}
}

// A pod that waits costs nearly nothing, and one that starts loses nearly nothing.
func TestAsksEverLessOften(t *testing.T) {
	asked := 0
	var last time.Duration
	for sum, pause := time.Duration(0), FirstAsk; sum < time.Minute; pause = NextAsk(pause) {
		if late := pause; sum > 100*time.Millisecond && sum < time.Second && late > sum/2 {
			t.Errorf("after %s it is asked again after %s, want half of that at most", sum, late)
		}
		sum += pause
		asked++
		last = pause
	}
	if asked > 80 || last != slowestAsk {
		t.Errorf("asked %d times in a minute, at the end each %s, want 80 at most, each %s", asked, last, slowestAsk)
	}
}

// Envoy starts when the capture rules are there, and what keeps them from being found is tried again.
func TestAwaitCapture(t *testing.T) {
	answers := []error{capture.ErrNotCaptured, errors.New("somebody has the port"), nil}
	asked := 0
	check := func(context.Context) error { asked++; return answers[asked-1] }
	if err := awaitCapture(t.Context(), check, slog.New(slog.DiscardHandler)); err != nil || asked != len(answers) {
		t.Errorf("asked %d times, %v; want %d", asked, err, len(answers))
	}
	ctx, cancel := context.WithCancel(t.Context())
	never := func(context.Context) error { cancel(); return capture.ErrNotCaptured }
	if err := awaitCapture(ctx, never, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("a pod that ends: %v", err)
	}
}

func TestComplaint(t *testing.T) {
	var log lockedBuffer
	c := complaint{log: slog.New(slog.NewTextHandler(&log, nil)), next: time.Now().Add(time.Hour)}
	c.waiting("no certificate")
	c.ended()
	if log.String() != "" {
		t.Errorf("an ordinary start says %q", log.String())
	}
	c.next = time.Time{}
	for _, reason := range []string{"no certificate", "no certificate", "no listeners", "no listeners"} {
		c.waiting(reason)
	}
	c.ended()
	if lines := strings.Count(log.String(), "\n"); lines != 3 || !strings.Contains(log.String(), `reason="no certificate"`) || !strings.Contains(log.String(), `reason="no listeners"`) {
		t.Errorf("said %q, want each reason once and the end", log.String())
	}
	c.next = time.Time{}
	c.waiting("no listeners")
	if lines := strings.Count(log.String(), "\n"); lines != 4 {
		t.Errorf("said %q, want the reason again after a while", log.String())
	}
}
