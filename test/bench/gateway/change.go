package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/echo"
)

// changedGateway has a listener in plain text and one with TLS, for a host of HTTP and one of gRPC. %s are more listeners.
const changedGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public}
spec:
  gatewayClassName: mizzen
  listeners:
    - {name: http, port: 80, protocol: HTTP}
    - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: public}]}}
%s`

const changedRoutes = `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec:
  parentRefs: [{name: public}]
  hostnames: [grpc.example.com]
  rules: [{backendRefs: [{name: server, port: 50051}]}]
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080}]
`

// webRoute is the route of the load over HTTP: weights of two Services, and a header that it adds.
const webRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: public}]
  hostnames: [web.example.com]
  rules:
    - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-turn, value: "%[3]d"}]}}]
      backendRefs: [{name: server, port: 8080, weight: %[1]d}, {name: other, port: 8080, weight: %[2]d}]
`

// changes makes one change of each kind at a time, and knows what was changed last.
type changes struct {
	*bench
	address   string
	client    *http.Client // over HTTP/1.1, in plain text
	weight    int
	turn      int
	listeners string
}

// change makes changes of each kind one after the other, while clients call, and counts the requests that fail.
func change(ctx context.Context, b *bench) ([]figure, error) {
	c := &changes{bench: b, weight: 50}
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	loads, end, err := c.loads(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := sleep(ctx, 2*time.Second); err != nil {
		return nil, err
	}
	warm := loads.soFar()
	if warm.failed > 0 {
		return nil, fmt.Errorf("%d of %d requests failed before any change: %w", warm.failed, warm.calls, warm.example)
	}
	var figures []figure
	for _, kind := range []struct {
		name string
		make func(ctx context.Context, i int) error
	}{
		{"a new route", c.newRoute}, {"weights", c.newWeight}, {"a header filter", c.newHeader},
		{"a certificate", c.newCertificate}, {"pods of the backend", c.scaled}, {"a new listener", c.newListener},
	} {
		before, start := loads.soFar(), time.Now()
		var times []time.Duration
		for i := range b.change {
			at := time.Now()
			if err := kind.make(ctx, i); err != nil {
				return figures, fmt.Errorf("%s, change %d: %w", kind.name, i+1, err)
			}
			times = append(times, time.Since(at))
		}
		if err := sleep(ctx, time.Second); err != nil { // what the last one breaks
			return figures, err
		}
		got := loads.soFar().minus(before)
		perSecond := float64(got.calls) / time.Since(start).Seconds()
		b.log("%s: %d of %d requests failed, %.0f a second; each took effect after %s; %v", kind.name, got.failed, got.calls, perSecond, show(quantile(times, 0.5)), got.example)
		f := none(fmt.Sprintf("%d times %s: failed requests", b.change, kind.name), got.failed, fmt.Sprintf(" of %d", got.calls))
		f.got += fmt.Sprintf("; in effect after %s (p50)", show(quantile(times, 0.5)))
		if perSecond < 0.9*float64(b.rate) {
			f.got += fmt.Sprintf("; only %.0f requests a second", perSecond)
		}
		figures = append(figures, f)
	}
	return figures, nil
}

func (c *changes) prepare(ctx context.Context) error {
	if err := c.namespace(ctx, c.ns, map[string]string{config.LabelInjection: config.InjectionEnabled}); err != nil {
		return err
	}
	if _, err := c.secret(ctx); err != nil {
		return err
	}
	objects := fmt.Sprintf(server, 2, testImage) + "---" + fmt.Sprintf(changedGateway, "") + "---" + changedRoutes + "---" + c.web()
	if err := c.Apply(ctx, c.ns, objects); err != nil {
		return err
	}
	for _, name := range []string{serverName, gatewayName + "-mizzen"} {
		if err := c.appears(ctx, name); err != nil {
			return err
		}
	}
	var err error
	if c.address, err = c.GatewayAddress(ctx, c.ns, gatewayName, readyTimeout); err != nil {
		return err
	}
	c.client = &http.Client{Transport: &http.Transport{DialContext: dialer(c.address), MaxIdleConnsPerHost: callers}, Timeout: 20 * time.Second}
	return c.effective(ctx, "http://"+webHost+"/", "", "")
}

func (c *changes) web() string { return fmt.Sprintf(webRoute, c.weight, 100-c.weight, c.turn) }

// loads starts the requests over all protocols, a third of the rate each.
func (c *changes) loads(ctx context.Context) (steadies, func(), error) {
	h2 := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: dialer(c.address), TLSClientConfig: load.Unverified(webHost), ForceAttemptHTTP2: true,
	}}
	conn, err := grpc.NewClient("passthrough:///"+grpcHost+":443", grpc.WithTransportCredentials(credentials.NewTLS(load.Unverified(grpcHost))),
		grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			return dialer(c.address)(ctx, "tcp", target)
		}))
	if err != nil {
		return nil, nil, err
	}
	calls := echo.NewEchoClient(conn)
	get := func(client *http.Client, url string) func(context.Context) error {
		return func(ctx context.Context) error {
			status, _, err := ask(ctx, client, url, "")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d", status)
			}
			return err
		}
	}
	one := c.rate / 3
	all := steadies{
		startSteady(ctx, "HTTP/1.1", one, get(c.client, "http://"+webHost+"/")),
		startSteady(ctx, "HTTP/2", one, get(h2, "https://"+webHost+"/")),
		startSteady(ctx, "gRPC", c.rate-2*one, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			_, err := calls.Call(ctx, &echo.Request{})
			return err
		}),
	}
	return all, func() { all.stop(); conn.Close() }, nil
}

// effective waits until a URL is answered with 200, and with this value of a header if one is named.
func (c *changes) effective(ctx context.Context, url, header, want string) error {
	deadline := time.Now().Add(time.Minute)
	for {
		status, value, err := ask(ctx, c.client, url, header)
		if err == nil && status == http.StatusOK && (header == "" || value == want) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(err, fmt.Errorf("%s: status %d, %s %q after a minute; want 200 and %q", url, status, header, value, want))
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// servedSerial is the serial number of the certificate that the gateway shows.
func (c *changes) servedSerial(ctx context.Context) (string, error) {
	d := &tls.Dialer{Config: load.Unverified(webHost), NetDialer: &net.Dialer{Timeout: 5 * time.Second}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(c.address, "443"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}
