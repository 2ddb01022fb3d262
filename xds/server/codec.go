package server

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// response is a DeltaDiscoveryResponse whose resources were marshalled when they were published, once for all proxies.
// Only the rest is marshalled for each proxy.
type response struct {
	envelope  *discoveryv3.DeltaDiscoveryResponse
	resources []*entry
}

// codec is gRPC's own, except for responses. Protobuf allows the fields of a message in any order, so the resources can
// follow the envelope.
// https://protobuf.dev/programming-guides/encoding/#order
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*response)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	envelope, err := proto.Marshal(r.envelope)
	if err != nil {
		return nil, err
	}
	out := make(mem.BufferSlice, 0, len(r.resources)+1)
	out = append(out, mem.SliceBuffer(envelope))
	for _, e := range r.resources {
		out = append(out, e.wire)
	}
	return out, nil
}

// resourcesField is the number of DeltaDiscoveryResponse.resources.
var resourcesField = (&discoveryv3.DeltaDiscoveryResponse{}).ProtoReflect().Descriptor().Fields().ByName("resources").Number()

// wireResource marshals one resource as a field of a response.
func wireResource(r *discoveryv3.Resource) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		return nil, err
	}
	tag := protowire.AppendTag(make([]byte, 0, len(body)+8), resourcesField, protowire.BytesType)
	return protowire.AppendBytes(tag, body), nil
}
