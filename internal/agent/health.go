package agent

import (
	"context"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// health serves readiness to the kubelet by gRPC, because the kubelet's event has the text of a gRPC answer, but only
// the status of an HTTP answer.
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/probe/grpc/grpc.go
type health struct {
	healthv1.UnimplementedHealthServer
	agent *agent
}

// Check waits for a starting sidecar, nearly as long as the probe's timeout. So an ordinary start leaves no failed
// probe in the pod's events, and a slow start gets few probes.
func (h health) Check(ctx context.Context, _ *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	wait := startupWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline) - probeMargin
	}
	err := h.agent.started(ctx, wait)
	if err == nil {
		err = h.agent.readiness(ctx)
	}
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

// withHealth answers gRPC beside HTTP, on the same port.
func withHealth(h healthv1.HealthServer, other http.Handler) http.Handler {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 10))
	healthv1.RegisterHealthServer(server, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			server.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}
