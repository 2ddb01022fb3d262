// Package server is the answering side of the test application: HTTP, WebSocket, gRPC, server-first TCP,
// TLS and UDP, each on the addresses it is told. Answers tell the pod in a header or a message.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Options of the server. Addresses are lists; an empty list turns a protocol off.
type Options struct {
	Pod                                              string
	HTTP, GRPC, TLS, MySQL, SMTP, Echo, UDP, Control []string
	// ReadyDelay is how long /healthz answers 503 after the start.
	ReadyDelay time.Duration
	// CrashMarker is a file that a crash leaves behind: the restarted process then serves nothing, so
	// that a crashed pod stays crashed. Empty turns this off.
	CrashMarker string
	// ShutdownTimeout bounds the wait for open calls after the context ends.
	ShutdownTimeout time.Duration
}

// Server answers.
type Server struct {
	opts     Options
	executed atomic.Int64
	inFlight atomic.Int64
	ready    atomic.Bool
	failing  atomic.Int32 // the gRPC status code of every answer
	started  time.Time
	control  http.Handler

	mu    sync.Mutex
	hooks []string
	stop  []func(context.Context)
}

// New makes a server; control serves the control port's paths that the server does not know.
func New(opts Options, control http.Handler) *Server {
	s := &Server{opts: opts, started: time.Now(), control: control}
	s.ready.Store(true)
	return s
}

// Run serves until ctx ends and open calls are done, or until a listener fails.
func (s *Server) Run(ctx context.Context) error {
	if s.crashedBefore() {
		slog.Info("crashed before, serving nothing")
		<-ctx.Done()
		return nil
	}
	failed := make(chan error, 32)
	if err := s.listen(failed); err != nil {
		return err
	}
	slog.Info("serving", "pod", s.opts.Pod)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.ShutdownTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, stop := range s.stop {
		wg.Go(func() { stop(bound) })
	}
	wg.Wait()
	return nil
}

// listen opens every listener before the first is served, so that a taken port is found at once.
func (s *Server) listen(failed chan<- error) error {
	type proto struct {
		addrs []string
		serve func(net.Listener) error
	}
	for _, p := range []proto{
		{s.opts.HTTP, s.serveHTTP(s.httpHandler())},
		{s.opts.Control, s.serveHTTP(s.controlHandler())},
		{s.opts.GRPC, s.serveGRPC},
		{s.opts.TLS, s.serveTLS},
		{s.opts.MySQL, s.serveTCP(mysql)},
		{s.opts.SMTP, s.serveTCP(smtp)},
		{s.opts.Echo, s.serveTCP(echoLines)},
	} {
		for _, addr := range p.addrs {
			lis, err := net.Listen("tcp", addr) //nolint:noctx // stopped with its server
			if err != nil {
				return fmt.Errorf("listen %s: %w", addr, err)
			}
			go func() {
				if err := p.serve(lis); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
					failed <- fmt.Errorf("serve %s: %w", addr, err)
				}
			}()
		}
	}
	for _, addr := range s.opts.UDP {
		conn, err := net.ListenPacket("udp", addr) //nolint:noctx // ends with the program
		if err != nil {
			return fmt.Errorf("listen udp %s: %w", addr, err)
		}
		go s.serveUDP(conn)
	}
	return nil
}

func (s *Server) onStop(f func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = append(s.stop, f)
}

func (s *Server) serveHTTP(h http.Handler) func(net.Listener) error {
	return func(lis net.Listener) error {
		srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		s.onStop(func(ctx context.Context) { _ = srv.Shutdown(ctx) })
		return srv.Serve(lis)
	}
}

func (s *Server) serveGRPC(lis net.Listener) error {
	g := s.newGRPC()
	s.onStop(func(ctx context.Context) { gracefulStop(ctx, g) })
	return g.Serve(lis)
}

func gracefulStop(ctx context.Context, g *grpc.Server) {
	defer context.AfterFunc(ctx, g.Stop)()
	g.GracefulStop()
}

func (s *Server) crashedBefore() bool {
	if s.opts.CrashMarker == "" {
		return false
	}
	_, err := os.Stat(s.opts.CrashMarker)
	return err == nil
}

// crash ends the process as SIGKILL would: at once, nothing closed or flushed. The kernel ignores a
// real SIGKILL that PID 1 of a container sends itself. The moment and the calls in flight are logged
// first, for a test to hold the failures against.
func (s *Server) crash() {
	if s.opts.CrashMarker != "" {
		if err := os.WriteFile(s.opts.CrashMarker, nil, 0o600); err != nil {
			slog.Error("crash marker", "error", err)
		}
	}
	fmt.Fprintf(os.Stdout, `{"event":"crash","inFlight":%d,"at":%q}`+"\n", s.inFlight.Load(), time.Now().Format(time.RFC3339Nano))
	os.Exit(137)
}

func (s *Server) isReady() bool {
	return s.ready.Load() && time.Since(s.started) >= s.opts.ReadyDelay
}

func (s *Server) addHook(name string) {
	s.mu.Lock()
	s.hooks = append(s.hooks, name)
	s.mu.Unlock()
	fmt.Fprintf(os.Stdout, `{"event":"hook","name":%q}`+"\n", name)
}

func (s *Server) hookList() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.hooks, ",")
}
