package adsload

import (
	"fmt"
	"net"
	"sync/atomic"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// codec leaves messages as they are on the wire: to make Go objects of every response for every client
// would cost more than the control plane needs to write it.
type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// Unmarshal gives a buffer that the caller frees.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*mem.Buffer) = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}

// wireResource and wireResponse point into a message.
type wireResource struct{ name, version, body []byte }

type wireResponse struct {
	kind      Kind
	size      int // of the message
	nonce     string
	resources []wireResource
	removed   []string
}

// parse reads a DeltaDiscoveryResponse.
func (r *wireResponse) parse(b []byte) error {
	*r = wireResponse{size: len(b), resources: r.resources[:0]}
	var typeURL string
	var inner error
	err := fields(b, func(n protowire.Number, v []byte) {
		switch n {
		case 2:
			var res wireResource
			if err := res.parse(v); err != nil {
				inner = err
			}
			r.resources = append(r.resources, res)
		case 4:
			typeURL = string(v)
		case 5:
			r.nonce = string(v)
		case 6:
			r.removed = append(r.removed, string(v))
		}
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return fmt.Errorf("response of %d bytes: %w", len(b), err)
	}
	r.kind, err = kindOf(typeURL)
	return err
}

func (r *wireResource) parse(b []byte) error {
	return fields(b, func(n protowire.Number, v []byte) {
		switch n {
		case 1:
			r.version = v
		case 2:
			r.body = v
		case 3:
			r.name = v
		}
	})
}

// fields calls f with each length-delimited field.
func fields(b []byte, f func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(number, typ, b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			f(number, v)
		}
		b = b[size:]
	}
	return nil
}

// marshal writes a request, with what the client holds as its initial versions. They are written by
// hand, not as a map: ten thousand entries for each of two thousand clients.
func marshal(req *discoveryv3.DeltaDiscoveryRequest, initial []*resource) ([]byte, error) {
	b, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	var entry []byte
	for _, r := range initial {
		if r == nil {
			continue
		}
		entry = protowire.AppendTag(entry[:0], 1, protowire.BytesType)
		entry = protowire.AppendString(entry, r.name)
		entry = protowire.AppendTag(entry, 2, protowire.BytesType)
		entry = protowire.AppendString(entry, r.version)
		b = protowire.AppendTag(b, 5, protowire.BytesType) // initial_resource_versions
		b = protowire.AppendBytes(b, entry)
	}
	return b, nil
}

// countedConn adds what it carries to two counters.
type countedConn struct {
	net.Conn
	in, out *atomic.Int64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	return n, err
}
