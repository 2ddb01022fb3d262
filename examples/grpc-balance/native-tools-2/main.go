// Native-tools-2 is the server of the example: HTTP and gRPC, both answering the name of the pod.
// It knows nothing of a mesh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/mizzen-mesh/mizzen/examples/grpc-balance/whoami"
)

// shutdownTimeout bounds how long open calls are waited for after SIGTERM.
const shutdownTimeout = 20 * time.Second

func main() {
	httpAddr := flag.String("http", ":8081", "address of the HTTP server")
	grpcAddr := flag.String("grpc", ":50051", "address of the gRPC server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, *httpAddr, *grpcAddr)
	stop()
	if err != nil {
		slog.Error("native-tools-2", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then lets open calls finish.
func run(ctx context.Context, httpAddr, grpcAddr string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", grpcAddr)
	if err != nil {
		return err
	}
	grpcServer, httpServer := newGRPC(pod), newHTTP(pod, httpAddr)
	failed := make(chan error, 2)
	go func() { failed <- grpcServer.Serve(lis) }()
	go func() { failed <- httpServer.ListenAndServe() }()
	slog.Info("serving", "pod", pod, "http", httpAddr, "grpc", grpcAddr)

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	slog.Info("stopping: open calls may finish")
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	context.AfterFunc(bound, grpcServer.Stop)
	grpcServer.GracefulStop()
	if err := httpServer.Shutdown(bound); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

type server struct {
	whoami.UnimplementedWhoAmIServer
	pod string
}

func (s server) Whoami(context.Context, *whoami.WhoamiRequest) (*whoami.WhoamiReply, error) {
	return &whoami.WhoamiReply{Pod: s.pod}, nil
}

func newGRPC(pod string) *grpc.Server {
	s := grpc.NewServer()
	whoami.RegisterWhoAmIServer(s, server{pod: pod})
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	return s
}

func newHTTP(pod, addr string) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, pod) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
}
