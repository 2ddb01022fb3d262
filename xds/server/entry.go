package server

import (
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

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
	message, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
	if err != nil {
		return nil, fmt.Errorf("marshal %s %q: %w", r.Type, r.Name, err)
	}
	version := strconv.FormatUint(xxhash.Sum64(message), 36)
	typeURL := "type.googleapis.com/" + string(r.Message.ProtoReflect().Descriptor().FullName())
	return &entry{
		name: r.Name, version: version, references: r.Needs(), published: now,
		wire: mem.SliceBuffer(wireResource(r.Name, version, typeURL, message)),
	}, nil
}
