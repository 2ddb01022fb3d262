package addresses

import (
	"context"
	"net/netip"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// Register adds the service that Envoy asks to a server for Envoy.
func (a *Addresses) Register(s grpc.ServiceRegistrar) {
	ratelimitv3.RegisterRateLimitServiceServer(s, service{addresses: a})
}

type service struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	addresses *Addresses
}

// ShouldRateLimit returns the destination of a new connection and the allowed identities. If the address must not be
// called, it answers "over the limit", and Envoy closes the connection.
func (s service) ShouldRateLimit(ctx context.Context, req *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	addr, err := destination(req)
	if err != nil {
		return nil, err
	}
	identity, err := s.addresses.Who(ctx, addr)
	if err != nil {
		return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OVER_LIMIT}, nil //nolint:nilerr // this is the answer to it
	}
	answer := map[string]*structpb.Value{sds.AddressCluster: structpb.NewStringValue(sds.PlainCluster)}
	if identity != sds.PlainText {
		answer[sds.AddressCluster] = structpb.NewStringValue(sds.PodsCluster)
		answer[sds.AddressIdentity] = structpb.NewStringValue(identity)
	}
	return &ratelimitv3.RateLimitResponse{
		OverallCode: ratelimitv3.RateLimitResponse_OK, DynamicMetadata: &structpb.Struct{Fields: answer},
	}, nil
}

// destination reads the question.
func destination(req *ratelimitv3.RateLimitRequest) (netip.AddrPort, error) {
	if req.GetDomain() != sds.AddressDomain || len(req.GetDescriptors()) != 1 || len(req.Descriptors[0].GetEntries()) != 1 {
		return netip.AddrPort{}, status.Errorf(codes.InvalidArgument, "want one descriptor with one entry in the domain %q", sds.AddressDomain)
	}
	entry := req.Descriptors[0].Entries[0]
	addr, err := netip.ParseAddrPort(entry.GetValue())
	if entry.GetKey() != sds.AddressKey || err != nil {
		return netip.AddrPort{}, status.Errorf(codes.InvalidArgument, "%.100q: %.100q: want %s: <ip>:<port>", entry.GetKey(), entry.GetValue(), sds.AddressKey)
	}
	return addr, nil
}
