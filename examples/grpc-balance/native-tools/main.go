// Native-tools is the client of the example. It calls another Service on request and answers the
// name of the pod that served the call:
//
//	GET /grpc_client?name=native-tools-2   over one gRPC connection, dialled once and kept for life
//	GET /http_client?name=native-tools-2   over a fresh HTTP connection for each call
//
// It knows nothing of a mesh: no client-side load balancing, no SDK, plain Service names.
package main

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	addr := flag.String("http", ":8080", "address of the HTTP server")
	httpPort := flag.Int("target-http-port", 8081, "HTTP port of the Service that is called")
	grpcPort := flag.Int("target-grpc-port", 50051, "gRPC port of the Service that is called")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, *addr, newClients(*httpPort, *grpcPort))
	stop()
	if err != nil {
		slog.Error("native-tools", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then lets open requests finish.
func run(ctx context.Context, addr string, c *clients) error {
	defer c.close()
	srv := &http.Server{Addr: addr, Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	slog.Info("serving", "http", addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return srv.Shutdown(bound)
}
