package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/node"
)

// credentials returns those of Options.TLS, with refusals counted and logged.
func (s *Server) credentials() credentials.TransportCredentials {
	if s.opt.TLS == nil {
		return insecure.NewCredentials()
	}
	return &handshakes{
		TransportCredentials: credentials.NewTLS(s.opt.TLS), log: s.opt.Log, metrics: s.metrics, logged: s.complaints,
	}
}

const remedyHandshake = "a sidecar needs a certificate of this mesh; if this client is a sidecar, its agent's log says why it has none"

type handshakes struct {
	credentials.TransportCredentials
	log     logr.Logger
	metrics *metrics
	logged  *rate.Limiter
}

// ServerHandshake is gRPC's own, but the connection ends when the client's certificate expires. Envoy then comes back
// with its next certificate; a client without one stays outside.
func (h *handshakes) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ServerHandshake(c)
	if err != nil {
		h.metrics.refused.WithLabelValues("certificate").Inc()
		if h.logged.Allow() {
			h.log.Error(err, "refused an ADS connection", "client", c.RemoteAddr().String(), "remedy", remedyHandshake)
		}
		return conn, info, err
	}
	if t, ok := info.(credentials.TLSInfo); ok && len(t.State.PeerCertificates) > 0 {
		conn = h.expiring(conn, t.State.PeerCertificates[0])
	}
	return conn, info, nil
}

// expiring closes a connection when the certificate expires.
func (h *handshakes) expiring(conn net.Conn, cert *x509.Certificate) net.Conn {
	timer := time.AfterFunc(time.Until(cert.NotAfter), func() {
		h.metrics.refused.WithLabelValues("expired").Inc()
		if h.logged.Allow() {
			h.log.Info("closed an ADS connection: the client's certificate has expired, and the client must connect with a new one",
				"client", conn.RemoteAddr().String(), "certificate", cert.Subject.CommonName, "expired", cert.NotAfter)
		}
		_ = conn.Close() // it may be closed already
	})
	return &expiringConn{Conn: conn, timer: timer}
}

type expiringConn struct {
	net.Conn
	timer *time.Timer
}

func (c *expiringConn) Close() error {
	c.timer.Stop()
	return c.Conn.Close()
}

// Clone is gRPC's own.
func (h *handshakes) Clone() credentials.TransportCredentials {
	clone := *h
	clone.TransportCredentials = h.TransportCredentials.Clone()
	return &clone
}

// identify returns the pod that the client's certificate names, as far as it can tell, and an error unless the node is
// that pod.
func (s *Server) identify(ctx context.Context, n node.Node) (node.Identity, error) {
	if s.opt.TLS == nil {
		return node.Identity{}, nil
	}
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return node.Identity{}, errors.New("no client certificate") // the handshake should have ended
	}
	id, err := s.opt.Identify(info.State.PeerCertificates[0])
	if err != nil {
		return id, err
	}
	if err := n.Check(id); err != nil {
		return id, fmt.Errorf("%w (a sidecar may request configuration for its own pod only)", err)
	}
	return id, nil
}

// refuse counts a refused stream and returns the error for its client. It logs only so many of them a second.
func (s *Server) refuse(ctx context.Context, code codes.Code, reason string, err error) error {
	s.metrics.refused.WithLabelValues(reason).Inc()
	if s.complaints.Allow() {
		s.opt.Log.Error(err, "refused an ADS stream", "reason", reason, "client", clientAddress(ctx))
	}
	return status.Error(code, err.Error())
}
