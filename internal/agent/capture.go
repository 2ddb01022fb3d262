package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

const (
	// answerPause delays the answer, so that nobody asks all the time.
	answerPause = 100 * time.Millisecond
	// captureReminder is the interval at which the log says that the rules are missing.
	captureReminder = 10 * time.Second
)

// errNotCaptured is the message to users about a pod that the CNI plugin missed.
var errNotCaptured = errors.New("the node's CNI plugin has not captured this pod's traffic, and no other container of the pod starts before it has. " +
	"If this lasts, check the pod of the DaemonSet mizzen-cni on this node: does it exist, is it ready, what does its log say? If the mesh no longer uses the plugin (cni.enabled is false), recreate this pod")

// awaitCNI waits until check finds the capture rules. The pod's own containers start after the sidecar is ready, so
// none of them runs without the rules. Meanwhile it answers at listen with what is missing.
func awaitCNI(ctx context.Context, listen string, check func(context.Context) error, log *slog.Logger) error {
	err := check(ctx)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	listener, lerr := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if lerr != nil {
		return lerr
	}
	server := newServer(withHealth(uncaptured{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(answerPause):
		case <-r.Context().Done():
		}
		http.Error(w, errNotCaptured.Error(), http.StatusServiceUnavailable)
	})))
	go func() { _ = server.Serve(limit(listener)) }()
	defer server.Close()

	began := time.Now()
	var told time.Time
	err = await(ctx, check, func(err error) {
		// What is no answer, as a port that somebody else has, is told and tried again: the kubelet restarts nobody else here.
		if time.Since(told) >= captureReminder {
			told = time.Now()
			log.Error("waiting for the capture rules", "since", time.Since(began).Round(time.Second), "error", reason(err))
		}
	})
	if err != nil {
		return nil // the pod ends
	}
	log.Warn("captured", "after", time.Since(began).Round(time.Millisecond))
	return nil
}

// uncaptured is the health of a sidecar that waits for capture.
type uncaptured struct {
	healthv1.UnimplementedHealthServer
}

func (uncaptured) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return nil, status.Error(codes.Unavailable, errNotCaptured.Error())
}

func reason(err error) error {
	if errors.Is(err, capture.ErrNotCaptured) {
		return errNotCaptured
	}
	return fmt.Errorf("%w (%w)", errNotCaptured, err)
}
