package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/echo"
)

const clientsManifest = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: clients}
spec:
  gatewayClassName: mizzen
  listeners:
    - name: https
      port: 443
      protocol: HTTPS
      hostname: "*.example.com"
      tls: {certificateRefs: [{name: tool}], options: {mizzen.dev/http3: "true"}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: clients}
spec:
  parentRefs: [{name: clients}]
  hostnames: [shop.example.com]
  rules: [{backendRefs: [{name: server, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: clients}
spec:
  parentRefs: [{name: clients}]
  hostnames: [grpc.example.com]
  rules: [{backendRefs: [{name: server, port: 50051}]}]
`

// Clients outside of the cluster call a gateway whose certificate comes from a certificate tool, and check it: over HTTP/1.1, HTTP/2 and HTTP/3,
// with gRPC and WebSocket. Each request of a connection is balanced, and large bodies come whole. The servers are strict.
func TestGatewayClients(t *testing.T) {
	alone(t)
	e := newGatewayEnv(t)
	e.server("server", 2)
	roots := e.toolCertificate("tool", "DNS:*.example.com")
	e.apply(clientsManifest)
	address := e.programmed("clients")
	e.ready("server")

	trusting := func() *tls.Config { return &tls.Config{RootCAs: roots} }
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, net.JoinHostPort(address, "443"))
	}
	transports := map[string]http.RoundTripper{
		"HTTP/1.1": &http.Transport{DialContext: dial, TLSClientConfig: trusting()},
		"HTTP/2.0": &http.Transport{DialContext: dial, TLSClientConfig: trusting(), ForceAttemptHTTP2: true},
		"HTTP/3.0": &http3.Transport{TLSClientConfig: trusting(), Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, net.JoinHostPort(address, "443"), tlsConfig, config)
		}},
	}
	for version, transport := range transports {
		t.Run(version, func(t *testing.T) {
			client := &http.Client{Transport: transport, Timeout: time.Minute}
			e.eventually(statusTime, func() (string, error) {
				_, err := roundTrip(t, client, "/", nil)
				return textOf(err), nil
			})
			counts := map[string]int{}
			for range 100 {
				res, err := roundTrip(t, client, "/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if res.Proto != version {
					t.Fatalf("the answer came over %s", res.Proto)
				}
				if offer := res.Header.Get("Alt-Svc"); (offer == "") != (version == "HTTP/3.0") {
					t.Fatalf("alt-svc: %q", offer)
				}
				counts[res.Header.Get("X-Pod")]++
			}
			spread(t, version+": 100 requests of one client over 2 strict pods", counts)
			body := make([]byte, 30_000_000)
			_, _ = rand.Read(body) // it never fails
			res, err := roundTrip(t, client, "/echo", body)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(res.content, body) {
				t.Errorf("%d bytes came back, not those %d that were sent", len(res.content), len(body))
			}
		})
	}

	t.Run("gRPC", func(t *testing.T) {
		conn, err := grpc.NewClient("passthrough:///grpc.example.com", grpc.WithTransportCredentials(credentials.NewTLS(trusting())),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "tcp", "") }))
		e.must(err)
		defer conn.Close()
		calls := echo.NewEchoClient(conn)
		e.eventually(statusTime, func() (string, error) {
			_, err := calls.Call(t.Context(), &echo.Request{})
			return textOf(err), nil
		})
		counts := map[string]int{}
		for range 100 {
			reply, err := calls.Call(t.Context(), &echo.Request{})
			if err != nil {
				t.Fatal(err)
			}
			counts[reply.Pod]++
		}
		spread(t, "gRPC: 100 calls of one connection over 2 strict pods", counts)
		chat, err := calls.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if err := chat.Send(&echo.Request{Body: []byte{byte(i)}}); err != nil {
				t.Fatal(err)
			}
			if reply, err := chat.Recv(); err != nil || !bytes.Equal(reply.Body, []byte{byte(i)}) {
				t.Fatalf("message %d of a chat: %v, error %v", i, reply, err)
			}
		}
		if err := chat.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); err != io.EOF { //nolint:errorlint // of gRPC
			t.Errorf("the end of a chat: %v", err)
		}
	})

	t.Run("WebSocket", func(t *testing.T) {
		settings, err := websocket.NewConfig("wss://shop.example.com/ws", "https://shop.example.com")
		e.must(err)
		tlsConfig := trusting()
		tlsConfig.ServerName = "shop.example.com"
		raw, err := dial(t.Context(), "tcp", "")
		e.must(err)
		conn, err := websocket.NewClient(settings, tls.Client(raw, tlsConfig))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var got string
		if err := websocket.Message.Send(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(conn, &got); err != nil || got != "hello" {
			t.Errorf("%q came back, error %v", got, err)
		}
	})
}

// textOf returns what an error says, nothing for none.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// answer is a response with its body.
type answer struct {
	*http.Response
	content []byte
}

// roundTrip calls shop.example.com, with POST if there is a body. Any status but 200 is an error.
func roundTrip(t *testing.T, client *http.Client, path string, body []byte) (answer, error) {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+edgeHost+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return answer{res, content}, err
}

// spread notes how requests are spread over two pods. Envoy picks the less busy one of two at random, so both get their share.
func spread(t *testing.T, what string, counts map[string]int) {
	t.Helper()
	var each []int
	for _, n := range counts {
		each = append(each, n)
	}
	slices.Sort(each)
	figure(t, what, fmt.Sprint(each), "each 25 to 75")
	if len(each) != 2 || each[0] < 25 {
		t.Errorf("%s: %v", what, counts)
	}
}

// toolCertificate has OpenSSL make a CA and a certificate that it signs, puts the chain into a Secret, and returns the CA.
func (e *env) toolCertificate(secret, names string) *x509.CertPool {
	e.Helper()
	dir := e.TempDir()
	run := func(args ...string) {
		e.Helper()
		cmd := exec.CommandContext(e.ctx, "openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			e.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.crt")
	run("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=gateway", "-addext", "subjectAltName="+names, "-keyout", "tls.key", "-out", "tls.csr")
	run("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-copy_extensions", "copy", "-out", "tls.crt")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		e.must(err)
		return b
	}
	_, err := e.CoreV1().Secrets(e.ns).Create(e.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secret}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: slices.Concat(read("tls.crt"), read("ca.crt")), corev1.TLSPrivateKeyKey: read("tls.key")},
	}, metav1.CreateOptions{})
	e.must(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read("ca.crt")) {
		e.Fatal("openssl made no certificate")
	}
	return roots
}
