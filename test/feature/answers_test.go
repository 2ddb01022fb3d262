package feature

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/answers"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// TestAnswersSayThatTheSidecarMadeThem: each answer that no server made has a header with the reason, words for people, and a
// count by Service and reason. A server's own answer has none of it.
func TestAnswersSayThatTheSidecarMadeThem(t *testing.T) {
	scripted(t, "10.244.0.5:8001", map[string]string{
		"broken":  "what is this\r\n\r\n",
		"own":     "HTTP/1.1 503 Mine\r\nContent-Length: 5\r\n\r\nsorry",
		"too big": "HTTP/1.1 200 OK\r\nBig: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	})
	serveTCP(t, "10.244.0.5:8002", func(c net.Conn) { _, _ = c.Read(make([]byte, 1000)) }) // and closes
	serveTCP(t, "10.244.0.5:8003", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })     // never answers
	services := map[string]service{}
	for i, s := range []struct {
		name, endpoint string
		annotations    map[string]string
	}{
		{"web", "10.244.0.5:8001", nil},
		{"closes", "10.244.0.5:8002", nil},
		{"silent", "10.244.0.5:8003", map[string]string{config.AnnotationTimeout: "50ms"}},
		{"refuses", "10.244.0.5:8004", nil},
		{"full", "10.244.0.5:8001", map[string]string{config.AnnotationMaxPendingRequests: "1", config.AnnotationMaxConnections: "1"}},
		{"none", "", nil},
	} {
		svc := service{ips: []string{fmt.Sprintf("10.96.2.%d", i+1)}, port: port("http", 80), annotations: s.annotations}
		if s.endpoint != "" {
			svc.endpoints = []string{s.endpoint}
		}
		services[s.name] = svc
	}
	w := newMesh(t, services)
	at := func(name string) string { return services[name].ips[0] + ":80" }
	for _, tt := range []struct {
		name, to, head, service, reason string
		status                          int
		grpc                            string // "" where it is not asked
	}{
		{"no endpoint", at("none"), "GET / HTTP/1.1\r\n", "none", "no-endpoint", 503, "14"},
		{"no Service", "10.96.2.99:80", "GET / HTTP/1.1\r\n", "", "no-service", 503, "14"},
		{"refused connection", at("refuses"), "GET / HTTP/1.1\r\n", "refuses", "connect-failed", 503, "14"},
		{"closed connection", at("closes"), "POST / HTTP/1.1\r\n", "closes", "connection-lost", 503, "14"},
		{"timeout", at("silent"), "GET / HTTP/1.1\r\n", "silent", "timeout", 504, "4"},
		{"not HTTP", at("web"), "GET / HTTP/1.1\r\nX-Answer: broken\r\n", "web", "bad-answer", 502, ""},
		{"answer too large", at("web"), "GET / HTTP/1.1\r\nX-Answer: too big\r\n", "web", "bad-answer", 502, ""},
		{"target", at("web"), "OPTIONS * HTTP/1.1\r\n", "", "bad-request", 404, ""},
		{"length", at("web"), "POST / HTTP/1.1\r\nContent-Length: x\r\n", "", "bad-request", 400, ""},
		{"transfer coding", at("web"), "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", "", "bad-request", 501, ""},
		{"head too large", at("web"), "GET / HTTP/1.1\r\nBig: " + strings.Repeat("x", 2<<20) + "\r\n", "", "head-too-large", 431, ""},
		{"WebSocket not taken", at("web"), "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", "", "upgrade-not-taken", 200, ""},
		{"a server's own", at("web"), "GET / HTTP/1.1\r\nX-Answer: own\r\n", "", "", 503, ""},
	} {
		for _, grpc := range []bool{false, true} {
			head := tt.head + "Host: x\r\n"
			if grpc {
				if tt.grpc == "" {
					continue
				}
				head += "Content-Type: application/grpc\r\n"
			}
			t.Run(fmt.Sprintf("%s, gRPC %t", tt.name, grpc), func(t *testing.T) {
				before := counted(t, w, tt.service, tt.reason)
				res, body := ask(t, tt.to, head+"\r\n")
				status, words := tt.status, body
				if grpc {
					status, words = 200, res.Header.Get("Grpc-Message")
					if got := res.Header.Get("Grpc-Status"); got != tt.grpc {
						t.Errorf("grpc-status %q, want %s", got, tt.grpc)
					}
				}
				if res.StatusCode != status {
					t.Errorf("status %d, want %d", res.StatusCode, status)
				}
				header := res.Header.Get(envoy.AnswerHeader)
				if tt.reason == "" {
					if header != "" || body != "sorry" {
						t.Errorf("header %q, body %q", header, body)
					}
					return
				}
				if !strings.HasPrefix(header, "mizzen-outbound") || !strings.HasSuffix(header, fmt.Sprintf("details=%q", tt.reason)) {
					t.Errorf("header %q, words %q", header, words)
				}
				if tt.reason != "upgrade-not-taken" { // which has the server's status, and is not counted
					if !strings.HasPrefix(words, "mizzen: ") {
						t.Errorf("words %q", words)
					}
					w.await("it is counted", func() error {
						if n := counted(t, w, tt.service, tt.reason); n != before+1 {
							return fmt.Errorf("%d, before %d", n, before)
						}
						return nil
					})
				}
			})
		}
	}
}

func ask(t *testing.T, to, request string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(c, request) }() // may be refused before its end
	return response(t, c)
}

// counted is the agent's metric of the sidecar.
func counted(t *testing.T, w *testMesh, service, reason string) (n int) {
	t.Helper()
	text, err := w.ask("/stats/prometheus?filter=" + answers.Stat)
	if err != nil {
		t.Fatal(err)
	}
	namespace, port := "shop", "80"
	if service == "" {
		namespace, port = "", ""
	}
	series := fmt.Sprintf(`%s{side="outbound",reason=%q,destination_namespace=%q,destination_service=%q,destination_port=%q} `,
		answers.Metric, reason, namespace, service, port)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(string(answers.Rename([]byte(line))), series); ok {
			_, _ = fmt.Sscan(value, &n)
		}
	}
	return n
}

func response(t *testing.T, c net.Conn) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
