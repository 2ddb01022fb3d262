package story

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/examples/grpc-balance/whoami"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	gateway     = "outside"
	gatewayPort = "80"
)

// ApplyGateway installs the CRDs of the Gateway API, unless the cluster has them, and applies the Gateway of the example.
func (s *Story) ApplyGateway(ctx context.Context) error {
	if err := s.InstallGatewayAPI(ctx); err != nil {
		return err
	}
	return s.ApplyFile(ctx, s.Namespace, "examples/grpc-balance/gateway.yaml")
}

// OutsideAddress waits until the Gateway is programmed, and returns its address.
func (s *Story) OutsideAddress(ctx context.Context) (string, error) {
	return s.GatewayAddress(ctx, s.Namespace, gateway, rolloutTimeout)
}

// MeasureOutside makes gRPC calls from this machine through the Gateway, one after the other over one connection, and counts by pod
// who served them.
func (s *Story) MeasureOutside(ctx context.Context, calls int, say func(string)) (map[string]int, error) {
	address, err := s.OutsideAddress(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(address, gatewayPort), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := whoami.NewWhoAmIClient(conn)
	call := func(ctx context.Context) (*whoami.WhoamiReply, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return client.Whoami(ctx, &whoami.WhoamiRequest{}, grpc.WaitForReady(true))
	}
	err = cluster.Poll(ctx, rolloutTimeout, func(ctx context.Context) (string, error) {
		if _, err := call(ctx); err != nil {
			return err.Error(), nil //nolint:nilerr // the route may be a moment behind the Gateway
		}
		return "", nil
	})
	if err != nil {
		return nil, fmt.Errorf("a call to %s: %w", address, err)
	}
	counts := map[string]int{}
	for i := range calls {
		reply, err := call(ctx)
		if err != nil {
			return nil, fmt.Errorf("call %d to %s: %w", i+1, address, err)
		}
		counts[reply.Pod]++
		say(fmt.Sprintf("%d of %d", i+1, calls))
	}
	return counts, nil
}
