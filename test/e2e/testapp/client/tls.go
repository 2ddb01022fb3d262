package client

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// tlsConfig shows what it is told to and takes any server: whom it spoke to is for the test to judge.
func tlsConfig(c *api.ClientTLS) (*tls.Config, error) {
	out := insecureTLS()
	out.ServerName, out.NextProtos = c.ServerName, c.ALPN
	if c.Certificate == "" {
		return out, nil
	}
	cert, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	if err != nil {
		return nil, err
	}
	// Whatever the server says it would accept.
	out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return out, nil
}

// peerPEM gives the server's certificates.
func peerPEM(s tls.ConnectionState) string {
	var out strings.Builder
	for _, c := range s.PeerCertificates {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Builder takes everything
	}
	return out.String()
}

// quiet is how long an exchange waits for more when something has come.
const quiet = time.Second

// exchange sends bytes and answers what comes back until the other side closes or has been silent for a
// while. Nothing at all is a failure.
func exchange(ctx context.Context, c api.Call) api.Answer {
	var certificates string
	a := withConn(ctx, "tcp", c.Target, func(conn net.Conn) (string, string, error) {
		if c.TLS != nil {
			config, err := tlsConfig(c.TLS)
			if err != nil {
				return "", "", err
			}
			secured := tls.Client(conn, config)
			if err := secured.HandshakeContext(ctx); err != nil {
				return "", "", fmt.Errorf("handshake: %w", err)
			}
			certificates, conn = peerPEM(secured.ConnectionState()), secured
		}
		if _, err := conn.Write(c.Content); err != nil {
			return "", "", err
		}
		text, err := readAll(ctx, conn)
		return "", text, err
	})
	a.Peer = certificates
	return a
}

func readAll(ctx context.Context, conn net.Conn) (string, error) {
	var got strings.Builder
	deadline, _ := ctx.Deadline() // every call has one
	for b := make([]byte, 64<<10); ; {
		_ = conn.SetReadDeadline(deadline) // a closed connection says so in Read
		n, err := conn.Read(b)
		got.Write(b[:n])
		if n > 0 {
			deadline = time.Now().Add(quiet)
		}
		if err == nil {
			continue
		}
		if got.Len() > 0 {
			return got.String(), nil
		}
		return "", err
	}
}

// callGRPCBytes opens a stream, sends one message and waits for one.
func callGRPCBytes(ctx context.Context, c api.Call) api.Answer {
	creds := insecure.NewCredentials()
	if c.TLS != nil {
		config, err := tlsConfig(c.TLS)
		if err != nil {
			return failed(err)
		}
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Target, grpc.WithTransportCredentials(creds), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	var server peer.Peer
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, c.GRPCMethod, grpc.Peer(&server))
	if err == nil {
		if err = stream.SendMsg(&c.Content); errors.Is(err, io.EOF) {
			err = nil // the stream's status is in RecvMsg
		}
	}
	var got []byte
	if err == nil {
		err = stream.RecvMsg(&got)
	}
	a := api.Answer{OK: err == nil, Text: fmt.Sprintf("%d bytes", len(got))}
	if err != nil {
		st := status.Convert(err)
		a = api.Answer{Text: "failed: " + st.Code().String(), Status: int(st.Code()), Error: err.Error()}
	}
	if info, ok := server.AuthInfo.(credentials.TLSInfo); ok {
		a.Peer = peerPEM(info.State)
	}
	return a
}

// bytesCodec passes messages on as they are.
type bytesCodec struct{}

var _ encoding.CodecV2 = bytesCodec{}

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// Name is that of messages in the protocol's wire format.
func (bytesCodec) Name() string { return "proto" }
