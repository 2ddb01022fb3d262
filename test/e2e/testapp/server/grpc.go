package server

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/echo"
)

// maxMessage lets big bodies through in one message.
const maxMessage = 64 << 20

func (s *Server) newGRPC() *grpc.Server {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	echo.RegisterEchoServer(g, echoServer{s: s})
	healthpb.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	return g
}

type echoServer struct {
	echo.UnimplementedEchoServer
	s *Server
}

func (e echoServer) reply(req *echo.Request) (*echo.Reply, error) {
	n := e.s.executed.Add(1)
	time.Sleep(time.Duration(req.GetDelayMs()) * time.Millisecond)
	for _, code := range []int32{e.s.failing.Load(), req.GetCode()} {
		if c := codes.Code(code); c != codes.OK {
			return nil, status.Error(c, "as asked")
		}
	}
	return &echo.Reply{Pod: e.s.opts.Pod, Executed: n, Body: req.GetBody()}, nil
}

func (e echoServer) Call(_ context.Context, req *echo.Request) (*echo.Reply, error) {
	e.s.inFlight.Add(1)
	defer e.s.inFlight.Add(-1)
	return e.reply(req)
}

func (e echoServer) Other(ctx context.Context, req *echo.Request) (*echo.Reply, error) {
	return e.Call(ctx, req)
}

func (e echoServer) Stream(req *echo.Request, out grpc.ServerStreamingServer[echo.Reply]) error {
	for range req.GetCount() {
		reply, err := e.reply(req)
		if err != nil {
			return err
		}
		if err := out.Send(reply); err != nil {
			return err
		}
	}
	return nil
}

func (e echoServer) Chat(stream grpc.BidiStreamingServer[echo.Request, echo.Reply]) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply, err := e.reply(req)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}
