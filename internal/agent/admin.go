package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// adminClient calls Envoy's admin interface on its Unix socket.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/admin
type adminClient struct{ http *http.Client }

func newAdminClient(socket string) *adminClient {
	var d net.Dialer
	return &adminClient{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		// Requests are rare, and Envoy would count an idle connection.
		DisableKeepAlives:  true,
		DisableCompression: true,
	}}}
}

// open sends a request; the caller closes the body. The status code is left to the caller.
func (c *adminClient) open(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	return c.http.Do(req)
}

// state asks /ready: LIVE, PRE_INITIALIZING, INITIALIZING or DRAINING.
func (c *adminClient) state(ctx context.Context) (string, error) {
	res, err := c.open(ctx, http.MethodGet, "/ready")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	return strings.TrimSpace(string(body)), err
}

// drain asks Envoy to send its clients elsewhere, by GOAWAY and by "connection: close" with the next response.
// Listeners stay open.
func (c *adminClient) drain(ctx context.Context) error {
	res, err := c.open(ctx, http.MethodPost, "/drain_listeners?graceful&skip_exit")
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/drain_listeners: %s", res.Status)
	}
	return nil
}

// stats returns the counters and gauges whose names match the regular expression.
func (c *adminClient) stats(ctx context.Context, filter string) (map[string]uint64, error) {
	res, err := c.open(ctx, http.MethodGet, "/stats?filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/stats: %s", res.Status)
	}
	values := map[string]uint64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), ": ")
		if !ok {
			continue
		}
		if v, err := strconv.ParseUint(text, 10, 64); err == nil {
			values[name] = v
		}
	}
	return values, lines.Err()
}

// activity is what Envoy's clients do.
type activity struct {
	// active is the number of active requests and opaque connections. Idle HTTP connections do not count; the admin
	// interface has no statistics (statsConfig).
	active uint64
	// connections is the number of all connections.
	connections uint64
}

// activity asks Envoy, which does not count active connections of TCP proxies. So active takes the listeners' connections
// without the HTTP ones, and adds connections whose application has closed but whose data is not sent yet.
func (c *adminClient) activity(ctx context.Context) (activity, error) {
	values, err := c.stats(ctx, `^((listener|http)\..*\.downstream_cx_active|http\..*\.downstream_rq_active|tcp\..*\.upstream_flush_active)$`)
	if err != nil {
		return activity{}, err
	}
	var all activity
	var busy, speakHTTP uint64
	for name, v := range values {
		switch {
		case strings.HasPrefix(name, "listener."):
			all.connections += v
		case strings.HasSuffix(name, ".downstream_cx_active"):
			speakHTTP += v
		default:
			busy += v
		}
	}
	// The gauges are not read at one instant.
	all.active = busy + all.connections - min(all.connections, speakHTTP)
	return all, nil
}

// active returns activity.active.
func (c *adminClient) active(ctx context.Context) (uint64, error) {
	all, err := c.activity(ctx)
	return all.active, err
}
