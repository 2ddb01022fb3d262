package main

import (
	"fmt"
	"net"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// startApplication listens in the server's pod: HTTP/1.1, HTTP/2 and gRPC on one kind of port, an
// echo on the other.
func startApplication(server world.NS) error {
	for port, serve := range map[uint16]func(net.Listener){
		capturedHTTP: load.ServeHTTP, plainHTTP: load.ServeHTTP, capturedTCP: load.ServeEcho, plainTCP: load.ServeEcho,
	} {
		l, err := server.Listen(fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		go serve(l) // ends with the program
	}
	return nil
}
