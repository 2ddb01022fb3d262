package server

import (
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// entry is one variant of a resource, ready to be sent.
type entry struct {
	name, version string
	// wire is the resource as a field of a response (codec).
	wire mem.Buffer
	// references are the resources that the proxy needs before this one.
	references []envoy.ID
	published  time.Time
}

func newEntry(r envoy.Resource, now time.Time) (*entry, error) {
	body := &anypb.Any{}
	if err := anypb.MarshalFrom(body, r.Message, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("marshal %s %q: %w", r.Type, r.Name, err)
	}
	e := &entry{
		name:       r.Name,
		version:    strconv.FormatUint(xxhash.Sum64(body.Value), 36),
		references: envoy.References(r.Message),
		published:  now,
	}
	wire, err := wireResource(&discoveryv3.Resource{Name: r.Name, Version: e.version, Resource: body})
	if err != nil {
		return nil, fmt.Errorf("marshal %s %q: %w", r.Type, r.Name, err)
	}
	e.wire = mem.SliceBuffer(wire)
	return e, nil
}
