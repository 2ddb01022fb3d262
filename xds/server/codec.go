package server

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
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

// Numbers of the fields of a resource on the wire.
var (
	resourcesField = fieldNumber(&discoveryv3.DeltaDiscoveryResponse{}, "resources")
	nameField      = fieldNumber(&discoveryv3.Resource{}, "name")
	versionField   = fieldNumber(&discoveryv3.Resource{}, "version")
	bodyField      = fieldNumber(&discoveryv3.Resource{}, "resource")
	typeURLField   = fieldNumber(&anypb.Any{}, "type_url")
	valueField     = fieldNumber(&anypb.Any{}, "value")
)

func fieldNumber(m proto.Message, name protoreflect.Name) protowire.Number {
	return m.ProtoReflect().Descriptor().Fields().ByName(name).Number()
}

// wireResource returns a resource as a field of a response. The message is marshalled already, and copied once.
func wireResource(name, version, typeURL string, message []byte) []byte {
	size := func(field protowire.Number, n int) int { return protowire.SizeTag(field) + protowire.SizeBytes(n) }
	body := size(typeURLField, len(typeURL)) + size(valueField, len(message))
	resource := size(nameField, len(name)) + size(versionField, len(version)) + size(bodyField, body)
	out := make([]byte, 0, size(resourcesField, resource))
	begin := func(field protowire.Number, n int) {
		out = protowire.AppendVarint(protowire.AppendTag(out, field, protowire.BytesType), uint64(n))
	}
	text := func(field protowire.Number, s string) {
		begin(field, len(s))
		out = append(out, s...)
	}
	begin(resourcesField, resource)
	text(nameField, name)
	text(versionField, version)
	begin(bodyField, body)
	text(typeURLField, typeURL)
	begin(valueField, len(message))
	return append(out, message...)
}
