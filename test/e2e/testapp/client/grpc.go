package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/examples/grpc-balance/whoami"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/echo"
)

const (
	maxMessage   = 64 << 20
	streamLength = 10
)

// grpcCaller makes the same gRPC call again and again over one connection.
type grpcCaller struct {
	c    api.Call
	conn *grpc.ClientConn
}

func newGRPCCaller(c api.Call) (*grpcCaller, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	}
	if c.Host != "" {
		opts = append(opts, grpc.WithAuthority(c.Host))
	}
	conn, err := grpc.NewClient(c.Target, opts...)
	if err != nil {
		return nil, err
	}
	return &grpcCaller{c: c, conn: conn}, nil
}

func (g *grpcCaller) close() { _ = g.conn.Close() }

func (g *grpcCaller) call(ctx context.Context) api.Answer {
	req := &echo.Request{Body: make([]byte, g.c.Body), DelayMs: int32(g.c.Delay.Milliseconds()), Code: g.c.Code}
	client := echo.NewEchoClient(g.conn)
	var replies []*echo.Reply
	var err error
	switch g.c.Kind {
	case api.GRPCStream:
		req.Count = streamLength
		replies, err = streamed(ctx, client, req)
	case api.GRPCChat:
		replies, err = chatted(ctx, client, req, g.c.Pause)
	case api.WhoAmI:
		var reply *whoami.WhoamiReply
		reply, err = whoami.NewWhoAmIClient(g.conn).Whoami(ctx, &whoami.WhoamiRequest{})
		replies = append(replies, &echo.Reply{Pod: reply.GetPod()})
	case api.GRPCOther:
		var reply *echo.Reply
		reply, err = client.Other(ctx, req)
		replies = append(replies, reply)
	default:
		var reply *echo.Reply
		reply, err = client.Call(ctx, req)
		replies = append(replies, reply)
	}
	if err != nil {
		st := status.Convert(err)
		return api.Answer{Text: "failed: " + st.Code().String(), Status: int(st.Code()), Error: err.Error()}
	}
	return summary(replies)
}

func summary(replies []*echo.Reply) api.Answer {
	pod, bytes := replies[0].GetPod(), 0
	for _, r := range replies {
		bytes += len(r.GetBody())
		if r.GetPod() != pod {
			return failed(fmt.Errorf("one stream was answered by %s and by %s", pod, r.GetPod()))
		}
	}
	return api.Answer{OK: true, Pod: pod, Text: fmt.Sprintf("%d replies, %d bytes", len(replies), bytes)}
}

func streamed(ctx context.Context, client echo.EchoClient, req *echo.Request) ([]*echo.Reply, error) {
	stream, err := client.Stream(ctx, req)
	if err != nil {
		return nil, err
	}
	var replies []*echo.Reply
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) && len(replies) > 0 {
			return replies, nil
		}
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply)
	}
}

func chatted(ctx context.Context, client echo.EchoClient, req *echo.Request, pause time.Duration) ([]*echo.Reply, error) {
	stream, err := client.Chat(ctx)
	if err != nil {
		return nil, err
	}
	var replies []*echo.Reply
	for range streamLength {
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		// After an EOF from Send, Recv gives the stream's real status.
		reply, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply)
		if len(replies) == 1 {
			time.Sleep(pause)
		}
	}
	return replies, stream.CloseSend()
}
