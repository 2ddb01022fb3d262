package plaintext

import (
	"net/netip"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/structpb"
)

// A kubelet that is sent on to the application and finds it there is no caller in plain text, once for each redirect;
// who else calls from the node is one.
func TestRedirects(t *testing.T) {
	const kubelet, application = "10.0.0.1:4001", "10.0.0.9:80"
	from, to := netip.MustParseAddrPort(kubelet), netip.MustParseAddrPort(application)
	for name, tt := range map[string]struct {
		redirected []string // by these probes
		wait       time.Duration
		source     string
		port       uint16
		calls      int
		want       uint64
	}{
		"no redirect":               {nil, 0, kubelet, 80, 1, 1},
		"the call that follows":     {[]string{"/readyz"}, time.Second, kubelet, 80, 1, 0},
		"two calls":                 {[]string{"/readyz"}, 0, kubelet, 80, 2, 1},
		"two probes, two calls":     {[]string{"/readyz", "/livez"}, 0, kubelet, 80, 2, 0},
		"one probe, time and again": {[]string{"/readyz", "/readyz", "/readyz"}, 0, kubelet, 80, 2, 1},
		"too late":                  {[]string{"/readyz"}, redirectedFor + time.Second, kubelet, 80, 1, 1},
		"to another port":           {[]string{"/readyz"}, 0, kubelet, 81, 1, 1},
		"another source":            {[]string{"/readyz"}, 0, "10.0.0.2:1", 80, 1, 1},
	} {
		for _, kind := range []string{connection, request} {
			t.Run(name+", "+kind, func(t *testing.T) {
				now := start
				c := New(Options{Registerer: prometheus.NewRegistry(), Now: func() time.Time { return now }})
				for _, probe := range tt.redirected {
					c.Redirected(probe, netip.MustParseAddrPort(tt.source).Addr(), tt.port)
				}
				now = now.Add(tt.wait)
				for range tt.calls {
					c.saw(from, to, "", kind)
					c.saw(from, to, "", ending)
					refused := entry(accessdatav3.AccessLogType_DownstreamEnd, kubelet, application)
					refused.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.rbac": {
						Fields: map[string]*structpb.Value{"allow.shadow_engine_result": structpb.NewStringValue("denied")},
					}}}
					c.meshed.judged(refused)
				}
				var got, refused uint64
				for _, caller := range c.Snapshot().Callers {
					got += caller.Connections + caller.Requests
				}
				for _, r := range c.Snapshot().WouldRefuse {
					refused += r.Count
				}
				if got != tt.want || refused != tt.want {
					t.Errorf("%d calls and %d refusals are remembered, want %d of each", got, refused, tt.want)
				}
			})
		}
	}
	var none *Callers
	none.Redirected("/readyz", from.Addr(), 80)
}
