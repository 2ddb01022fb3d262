package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// endpointsTime is within which a ready pod is called.
const endpointsTime = 3 * time.Second

// edgeHost is the name by which the clients of gateways call.
const edgeHost = "shop.example.com"

const edgeManifest = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public}
spec:
  gatewayClassName: mizzen
  listeners:
    - {name: http, port: 80, protocol: HTTP}
    - {name: https, port: 443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: public}]
  hostnames: [shop.example.com]
  rules: [{backendRefs: [{name: server, port: 8080}]}]
---
apiVersion: mizzen.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: gateway-only}
spec:
  podSelector: {matchLabels: {app: server}}
  rules: [{from: [{serviceAccount: {name: public-mizzen}}]}]
`

// A client outside of the mesh comes in by a Gateway. Its servers are strict, and a policy lets the gateway alone in. Requests are
// balanced over the pods, also those of one connection. None is lost while the gateway, the servers and the certificate are replaced
// under load, and while a route comes and goes.
func TestGateway(t *testing.T) {
	alone(t)
	e := newGatewayEnv(t)
	e.server("server", 3)
	first := e.certificate("shop", edgeHost)
	e.apply(edgeManifest)
	address := e.programmed("public")
	e.ready("server")
	plain, secure := newEdgeClient("http", address, false), newEdgeClient("https", address, true)
	for _, c := range []*edgeClient{plain, secure} {
		e.eventually(statusTime, func() (string, error) {
			if _, err := c.get(e.ctx); err != nil {
				return c.scheme + ": " + err.Error(), nil //nolint:nilerr // it may work soon
			}
			return "", nil
		})
	}

	// Kubernetes writes at most one change a second of an EndpointSlice, so the last pod may be ready a moment before the gateway knows it. One
	// that the gateway cannot reach would be left out for ten seconds.
	called := map[string]bool{}
	e.eventually(endpointsTime, func() (string, error) {
		pod, err := plain.get(e.ctx)
		called[pod] = true
		if len(called) < 3 {
			return fmt.Sprintf("%d of 3 pods called", len(called)), err
		}
		return "", err
	})

	t.Run("balanced", func(t *testing.T) {
		for _, c := range []*edgeClient{plain, secure} {
			counts := map[string]int{}
			for range 300 {
				pod, err := c.get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				counts[pod]++
			}
			spread := slices.Sorted(maps.Values(counts))
			figure(t, c.scheme+": 300 requests of one client over 3 strict pods", fmt.Sprint(spread), "each 60 to 140")
			if len(spread) != 3 || spread[0] < 60 || spread[2] > 140 {
				t.Errorf("%s: requests to each pod: %v", c.scheme, counts)
			}
		}
	})

	t.Run("others are refused", func(t *testing.T) {
		other := newEnv(t, true) // not strict, so that the test can talk to its client
		call := api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://server.%s:%d/", e.ns, httpPort)}
		other.answered(other.client(), call, policyTime, refusedWith(403))
	})

	t.Run("nothing lost", func(t *testing.T) {
		loads := []*edgeLoad{startEdgeLoad(t.Context(), plain, 250), startEdgeLoad(t.Context(), secure, 250)}
		e.must(e.Restart(e.ctx, e.ns, "public-mizzen"))
		e.must(e.WaitDeployment(e.ctx, e.ns, "public-mizzen", readyTimeout))
		e.noTerminating(gatewayv1.GatewayNameLabelKey + "=public")
		e.must(e.Restart(e.ctx, e.ns, "server"))
		e.ready("server")
		e.noTerminating("app=server")
		second := e.certificate("shop", edgeHost)
		replaced := time.Now()
		e.eventually(30*time.Second, func() (string, error) {
			serial, err := servedSerial(e.ctx, address)
			if err != nil {
				return "", err
			}
			if serial.Cmp(first) == 0 {
				return "the old certificate is served", nil
			}
			if serial.Cmp(second) != 0 {
				return "", fmt.Errorf("certificate %v is served, want %v", serial, second)
			}
			return "", nil
		})
		took := time.Since(replaced)
		figure(t, "a new certificate is served after", took.Round(10*time.Millisecond).String(), "≤ 2 s")
		if took > 2*time.Second {
			t.Errorf("a new certificate was served after %v, want at most 2 s", took)
		}
		e.apply(strings.ReplaceAll(strings.Split(edgeManifest, "---")[1], "shop", "other"))
		e.eventually(statusTime, func() (string, error) {
			if _, err := plain.withHost("other.example.com").get(e.ctx); err != nil {
				return "the new route: " + err.Error(), nil //nolint:nilerr // 404 until it is there
			}
			return "", nil
		})
		for _, l := range loads {
			calls, failed, example := l.stop()
			figure(t, l.client.scheme+": 250 rps while gateway, servers and certificate were replaced", fmt.Sprintf("%d of %d failed", failed, calls), "0 failed")
			if failed > 0 {
				t.Errorf("%s: %d of %d requests failed, for example: %v", l.client.scheme, failed, calls, example)
			}
			if least := 2000; calls < least {
				t.Errorf("%s: only %d requests were made, want %d", l.client.scheme, calls, least)
			}
		}
	})
}

// newGatewayEnv is an env whose pods are strict, on a cluster with the Gateway API's CRDs.
func newGatewayEnv(t *testing.T) *env {
	t.Helper()
	if withoutMesh {
		t.Skip("gateways are the mesh's")
	}
	e := newEnv(t, true)
	foreign, err := e.ForeignGatewayAPI(e.ctx)
	e.must(err)
	if foreign {
		t.Skip("the cluster has CRDs of the Gateway API that are not ours")
	}
	e.must(e.InstallExperimentalGatewayAPI(e.ctx))
	e.annotate(config.AnnotationMTLS, "strict")
	return e
}

// certificate makes a certificate for a name, puts it into a Secret, and returns its serial number.
func (e *env) certificate(secret, name string) *big.Int {
	e.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	e.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	e.must(err)
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	e.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	e.must(err)
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}}
	_, err = e.CoreV1().Secrets(e.ns).Create(e.ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = e.CoreV1().Secrets(e.ns).Update(e.ctx, object, metav1.UpdateOptions{})
	}
	e.must(err)
	return serial
}

// programmed waits until a Gateway is programmed, and returns its address.
func (e *env) programmed(name string) string {
	e.Helper()
	address, err := e.GatewayAddress(e.ctx, e.ns, name, readyTimeout)
	e.must(err)
	return address
}

// edgeClient calls a gateway from outside of the cluster, with HTTP/2 over TLS, else HTTP/1.1.
type edgeClient struct {
	scheme, host string
	http         *http.Client
}

func newEdgeClient(scheme, address string, http2 bool) *edgeClient {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, net.JoinHostPort(address, port))
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // servedSerial looks at the certificate
		ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 20,
	}
	return &edgeClient{scheme, edgeHost, &http.Client{Transport: transport, Timeout: 20 * time.Second}}
}

func (c *edgeClient) withHost(host string) *edgeClient { return &edgeClient{c.scheme, host, c.http} }

// get returns the pod that has answered with 200.
func (c *edgeClient) get(ctx context.Context) (pod string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.scheme+"://"+c.host+"/", nil)
	if err != nil {
		return "", err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", res.StatusCode)
	}
	return res.Header.Get("X-Pod"), nil
}

// edgeLoad calls a gateway at a rate until it is stopped.
type edgeLoad struct {
	client *edgeClient
	cancel context.CancelFunc
	done   chan struct{}

	mu            sync.Mutex
	calls, failed int
	example       error
}

func startEdgeLoad(ctx context.Context, client *edgeClient, perSecond int) *edgeLoad {
	ctx, cancel := context.WithCancel(ctx)
	l := &edgeLoad{client: client, cancel: cancel, done: make(chan struct{})}
	limit := rate.NewLimiter(rate.Limit(perSecond), 20*perSecond) // late calls are made up
	limit.AllowN(time.Now(), 20*perSecond)
	go func() {
		defer close(l.done)
		var wg sync.WaitGroup
		defer wg.Wait()
		for range atOnce / 2 {
			wg.Go(func() {
				for limit.Wait(ctx) == nil {
					l.note(l.client.get(context.WithoutCancel(ctx)))
				}
			})
		}
	}()
	return l
}

func (l *edgeLoad) note(_ string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls++; err != nil {
		l.failed++
		l.example = err
	}
}

// stop ends the load, requests in flight included.
func (l *edgeLoad) stop() (calls, failed int, example error) {
	l.cancel()
	<-l.done
	return l.calls, l.failed, l.example
}

// servedSerial returns the serial number of the certificate that a gateway serves.
func servedSerial(ctx context.Context, address string) (*big.Int, error) {
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: edgeHost, InsecureSkipVerify: true}} //nolint:gosec // it is looked at
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber, nil
}
