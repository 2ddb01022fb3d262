package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

func (p *Prober) grpc(ctx context.Context, action *appprobe.GRPC, userAgent string) error {
	creds := insecure.NewCredentials()
	if action.Mode == appprobe.ModeTLS {
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	// What gRPC says of a connection that it could not make is a text, and no error to look into.
	var dialed atomic.Pointer[error]
	conn, err := grpc.NewClient("passthrough:///"+p.address("", action.Port),
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(userAgent),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := p.dial(ctx, "tcp", addr)
			dialed.Store(&err)
			return c, err
		}),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	res, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: action.Service})
	if err != nil {
		if why := dialed.Load(); why != nil && *why != nil {
			err = *why
		}
		return fmt.Errorf("health rpc failed: %w", err)
	}
	if res.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", res.GetStatus())
	}
	return nil
}
