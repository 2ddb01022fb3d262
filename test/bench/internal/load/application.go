package load

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ServeHTTP answers on the listener until the program ends: HTTP/1.1, HTTP/2 in plain text, and gRPC.
func ServeHTTP(l net.Listener) {
	s := &http.Server{Handler: http.HandlerFunc(answer), Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	_ = s.Serve(l)
}

// GRPCMessage is a length-prefixed gRPC message of 64 bytes.
var GRPCMessage = append([]byte{0, 0, 0, 0, 64}, make([]byte, 64)...)

var body = []byte(strings.Repeat("mizzen\n", 100<<10/7+1))

// answer gives as many bytes as the path says, or to a gRPC call one message: on the wire that is a
// unary call.
func answer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") == "application/grpc" {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = w.Write(GRPCMessage)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		return
	}
	size, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || size < 0 || size > len(body) {
		http.Error(w, "want /<size>", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	_, _ = w.Write(body[:size])
}

// ServeEcho sends back what comes, until the program ends.
func ServeEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buffer := make([]byte, 64<<10)
			for {
				n, err := c.Read(buffer)
				if err != nil {
					return
				}
				if _, err := c.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}
