package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// A sidecar without capture rules waits, says why to whoever asks, and goes on when they are there.
func TestAwaitCNI(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	l.Close()
	var there atomic.Bool
	check := func(context.Context) error {
		if there.Load() {
			return nil
		}
		return capture.ErrNotCaptured
	}
	var log bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- awaitCNI(t.Context(), listen, check, NewLogger(&log, "warning")) }()
	var body string
	for deadline := time.Now().Add(10 * time.Second); body == "" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		res, err := http.Get("http://" + listen + "/startupz")
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if body = string(b); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %s", res.Status)
		}
	}
	if !strings.Contains(body, "has not captured this pod's traffic") || !strings.Contains(body, "DaemonSet mizzen-cni") {
		t.Errorf("answer %q", body)
	}
	select {
	case err := <-done:
		t.Fatalf("ended without the rules: %v", err)
	default:
	}
	there.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"waiting for the capture rules", "captured"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, &log)
		}
	}
	if l, err = net.Listen("tcp", listen); err != nil {
		t.Fatalf("the address is taken still: %v", err)
	}
	l.Close()
}

func TestAwaitCNIEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	check := func(context.Context) error { cancel(); return errors.New("somebody has the port") }
	if err := awaitCNI(ctx, "127.0.0.1:0", check, NewLogger(&log, "warning")); err != nil || ctx.Err() == nil {
		t.Errorf("%v", err)
	}
}
