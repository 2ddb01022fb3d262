package sdsserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// maxRequest bounds a request in bytes. The first one of a stream holds Envoy's list of extensions, some 50 kB.
const maxRequest = 1 << 20

// Serve answers on a Unix socket, which only the agent's own user can open, until ctx ends. register may add
// services; it may be nil.
func (s *Server) Serve(ctx context.Context, l net.Listener, register func(grpc.ServiceRegistrar)) error {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequest),
		// One client with small messages; gRPC's own buffers are 32 kB each.
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10),
	)
	secretv3.RegisterSecretDiscoveryServiceServer(server, s)
	if register != nil {
		register(server)
	}
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve secrets: %w", err)
	}
	return nil
}

// Listen makes the socket. One that an earlier process left behind is replaced.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("old socket for secrets: %w", err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// Linux gives the file the socket's own mode, so that there is no moment in which others can connect.
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket for secrets: %w", err)
	}
	return l, nil
}
