package main

import "github.com/mizzen-mesh/mizzen/test/bench/internal/load"

// scenario is a load; layouts.go, which -against takes from another commit, knows it by this name.
type scenario struct{ load.Scenario }

func (s scenario) isTCP() bool { return s.TCP() }

// scenarios have rates at which the machine is about half busy with two bare connection managers.
var scenarios = []scenario{
	{load.Scenario{Name: "HTTP/1.1 1 KB", Kind: load.HTTP1, Size: 1 << 10, Conns: 8, Streams: 1, Rate: 2000}},
	{load.Scenario{Name: "HTTP/1.1 100 KB", Kind: load.HTTP1, Size: 100 << 10, Conns: 8, Streams: 1, Rate: 800}},
	{load.Scenario{Name: "HTTP/2 1 KB", Kind: load.HTTP2, Size: 1 << 10, Conns: 2, Streams: 8, Rate: 2000}},
	{load.Scenario{Name: "HTTP/2 100 KB", Kind: load.HTTP2, Size: 100 << 10, Conns: 2, Streams: 8, Rate: 600}},
	{load.Scenario{Name: "gRPC unary 64 B", Kind: load.GRPC, Size: len(load.GRPCMessage), Conns: 2, Streams: 8, Rate: 2000}},
	{load.Scenario{Name: "HTTP/1.1 1 KB, 100 connections", Kind: load.HTTP1, Size: 1 << 10, Conns: 100, Streams: 1, Rate: 2000}},
	{load.Scenario{Name: "gRPC unary 64 B, 100 connections", Kind: load.GRPC, Size: len(load.GRPCMessage), Conns: 100, Streams: 1, Rate: 2000}},
	{load.Scenario{Name: "TCP 64 B", Kind: load.Echo, Size: 64, Conns: 8, Streams: 1, Rate: 3000}},
	{load.Scenario{Name: "TCP 32 KB", Kind: load.Echo, Size: 32 << 10, Conns: 8, Streams: 1, Rate: 2000}},
	{load.Scenario{Name: "TCP connect", Kind: load.Connect, Size: 64, Conns: 8, Streams: 1, Rate: 500}},
}
