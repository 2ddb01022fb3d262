package xdstest

import (
	"context"
	"net"

	"github.com/mizzen-mesh/mizzen/xds/server"
)

// Server is an ADS server.
type Server struct {
	*server.Server
	// Address is where it listens.
	Address string
	stop    context.CancelFunc
	ended   chan error
}

// Serve answers sidecars on the listener, on a port of loopback if that is nil, until Stop. A second server knows nothing of
// the first, like another replica.
func (c *ControlPlane) Serve(l net.Listener) (*Server, error) {
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil { //nolint:noctx // an address needs no wait
			return nil, err
		}
	}
	o := server.Options{ // as cmd/mizzen-controller
		Store: c.Store, Log: c.log,
		Preload: server.PreloadBounds{WholeMesh: int(*c.Config.OnDemand.WholeMesh), Namespace: int(*c.Config.OnDemand.Namespace)},
	}
	if c.Authority != nil {
		o.Classes, o.TLS, o.Identify = true, c.Authority.TLS(true), c.Authority.Identify
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Server: server.New(o), Address: l.Addr().String(), stop: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- s.Serve(ctx, l) }()
	return s, nil
}

// Stop ends the server and its streams. It is called once.
func (s *Server) Stop() error {
	s.stop()
	return <-s.ended
}
