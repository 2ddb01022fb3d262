package sdsserver

import (
	"strconv"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// stream is one subscription of Envoy. Names and acked are guarded by the server's mutex.
type stream struct {
	names map[string]bool
	// acked is the version of the roots that Envoy has accepted on this stream.
	acked string

	// nonce and sent are of the last response: what was sent as a whole, and of the roots in it.
	nonce     uint64
	sent      string
	sentRoots string
}

// StreamSecrets serves one subscription. Each of Envoy's has one name, but more are allowed.
func (s *Server) StreamSecrets(grpc secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	st := &stream{names: map[string]bool{}}
	s.mu.Lock()
	s.streams[st] = struct{}{}
	s.mu.Unlock()
	defer s.forget(st)

	requests := make(chan *discoveryv3.DiscoveryRequest)
	go receive(grpc, requests)
	for {
		response, changed := s.response(st)
		if response != nil {
			if err := grpc.Send(response); err != nil {
				return err
			}
		}
		select {
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if err := s.request(st, req); err != nil {
				return err
			}
		case <-changed:
		}
	}
}

func receive(grpc secretv3.SecretDiscoveryService_StreamSecretsServer, requests chan<- *discoveryv3.DiscoveryRequest) {
	defer close(requests)
	for {
		req, err := grpc.Recv()
		if err != nil {
			return
		}
		select {
		case requests <- req:
		case <-grpc.Context().Done():
			return
		}
	}
}

// request takes in a subscription, an acknowledgement or a refusal.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#ack-and-nack
func (s *Server) request(st *stream, req *discoveryv3.DiscoveryRequest) error {
	if url := req.GetTypeUrl(); url != "" && url != sds.TypeURL {
		return status.Errorf(codes.InvalidArgument, "type %q: want %q", url, sds.TypeURL)
	}
	for _, name := range req.GetResourceNames() {
		if name != sds.Workload && name != sds.Bundle {
			s.log.Warn("Envoy asks for a secret that does not exist", "secret", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if nonce := req.GetResponseNonce(); nonce != "" && nonce != strconv.FormatUint(st.nonce, 10) {
		return nil // of an older response; the answer to the last one is on its way
	} else if nonce != "" && req.GetErrorDetail() != nil {
		names := strings.Join(req.GetResourceNames(), ", ")
		s.log.Error("Envoy refused a secret and keeps the previous one", "secret", names, "error", req.GetErrorDetail().GetMessage())
		s.rejected(names)
	} else if nonce != "" && st.sentRoots != "" && st.acked != st.sentRoots {
		st.acked = st.sentRoots
		s.tell()
	}
	names := map[string]bool{}
	for _, name := range req.GetResourceNames() {
		names[name] = true
	}
	if names[sds.Bundle] != st.names[sds.Bundle] {
		s.tell()
	}
	for name := range names {
		if !st.names[name] {
			st.sent = "" // a name that is new is answered, whatever was sent before
		}
	}
	st.names = names
	return nil
}

// response returns what the stream lacks, or nil. It never sends the same secrets twice, even if Envoy refused them.
// The channel is closed when there may be more.
func (s *Server) response(st *stream) (*discoveryv3.DiscoveryResponse, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var resources []*anypb.Any
	var versions []string
	roots := ""
	for _, name := range []string{sds.Bundle, sds.Workload} {
		have, ok := s.secrets[name]
		if !ok || !st.names[name] {
			continue
		}
		resources, versions = append(resources, have.resource), append(versions, have.version)
		if name == sds.Bundle {
			roots = have.version
		}
	}
	all := strings.Join(versions, ",")
	if all == "" || all == st.sent {
		return nil, s.changed
	}
	st.nonce++
	st.sent, st.sentRoots = all, roots
	return &discoveryv3.DiscoveryResponse{
		TypeUrl: sds.TypeURL, VersionInfo: all, Nonce: strconv.FormatUint(st.nonce, 10), Resources: resources,
	}, s.changed
}

func (s *Server) forget(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.tell()
}

// tell wakes callers that wait on Acknowledged. The caller holds the mutex.
func (s *Server) tell() {
	close(s.acked)
	s.acked = make(chan struct{})
}
