package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPolicyOf(t *testing.T) {
	defaults := Outliers{ConsecutiveErrors: 5, Interval: 10 * time.Second, EjectionTime: 30 * time.Second, MaxEjectedPercent: 50}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        ServicePolicy
		wantErr     string // of the only error
	}{
		"none":              {},
		"others'":           {annotations: map[string]string{"example.com/max-connections": "x", AnnotationTimeout: "x"}},
		"limits":            {annotations: map[string]string{AnnotationMaxConnections: "1", AnnotationMaxPendingRequests: "2", AnnotationMaxRequests: "1000000"}, want: ServicePolicy{MaxConnections: 1, MaxPendingRequests: 2, MaxRequests: 1_000_000}},
		"peer timeout":      {annotations: map[string]string{AnnotationPeerTimeout: "1m30s"}, want: ServicePolicy{PeerTimeout: new(90 * time.Second)}},
		"no peer timeout":   {annotations: map[string]string{AnnotationPeerTimeout: "0s"}, want: ServicePolicy{PeerTimeout: new(time.Duration(0))}},
		"peer too short":    {annotations: map[string]string{AnnotationPeerTimeout: "2s"}, wantErr: wantPeerTimeout},
		"peer too long":     {annotations: map[string]string{AnnotationPeerTimeout: "25h"}, wantErr: wantPeerTimeout},
		"peer, no duration": {annotations: map[string]string{AnnotationPeerTimeout: "30"}, wantErr: wantPeerTimeout},
		"limit 0":           {annotations: map[string]string{AnnotationMaxRequests: "0", AnnotationMaxConnections: "7"}, want: ServicePolicy{MaxConnections: 7}, wantErr: wantLimit},
		"limit too high":    {annotations: map[string]string{AnnotationMaxRequests: "1000001"}, wantErr: wantLimit},
		"limit no number":   {annotations: map[string]string{AnnotationMaxConnections: "1e3"}, wantErr: wantLimit},
		"connects":          {annotations: map[string]string{AnnotationOutlierConnectFailures: "7"}, want: ServicePolicy{ConnectFailures: new(uint32(7))}},
		"no connects":       {annotations: map[string]string{AnnotationOutlierConnectFailures: "0"}, want: ServicePolicy{ConnectFailures: new(uint32(0))}},
		"connects, bad":     {annotations: map[string]string{AnnotationOutlierConnectFailures: "-1"}, wantErr: wantConnectFailures},
		"connects, both":    {annotations: map[string]string{AnnotationOutlierConnectFailures: "7", AnnotationOutlierConsecutiveErrors: "5"}, want: ServicePolicy{Outliers: &defaults}, wantErr: "no mizzen.dev/outlier-consecutive-errors beside it, which counts failures to connect as well"},
		"outliers":          {annotations: map[string]string{AnnotationOutlierConsecutiveErrors: "5"}, want: ServicePolicy{Outliers: &defaults}},
		"outliers, all":     {annotations: map[string]string{AnnotationOutlierConsecutiveErrors: "1", AnnotationOutlierInterval: "1s", AnnotationOutlierEjectionTime: "1h", AnnotationOutlierMaxEjectedPercent: "20"}, want: ServicePolicy{Outliers: &Outliers{1, time.Second, time.Hour, 20}}},
		"more than half":    {annotations: map[string]string{AnnotationOutlierConsecutiveErrors: "5", AnnotationOutlierMaxEjectedPercent: "51"}, want: ServicePolicy{Outliers: &defaults}, wantErr: wantEjected},
		"no interval":       {annotations: map[string]string{AnnotationOutlierConsecutiveErrors: "5", AnnotationOutlierInterval: "0s"}, want: ServicePolicy{Outliers: &defaults}, wantErr: wantEjectInterval},
		"no ejection time":  {annotations: map[string]string{AnnotationOutlierConsecutiveErrors: "5", AnnotationOutlierEjectionTime: "25h"}, want: ServicePolicy{Outliers: &defaults}, wantErr: wantEjectionTime},
		"outliers, not on":  {annotations: map[string]string{AnnotationOutlierInterval: "1s"}, wantErr: "mizzen.dev/outlier-consecutive-errors beside it"},
		"round robin":       {annotations: map[string]string{AnnotationLoadBalancing: "round-robin"}, want: ServicePolicy{LoadBalancing: RoundRobin}},
		"unknown":           {annotations: map[string]string{AnnotationLoadBalancing: "ROUND_ROBIN"}, wantErr: wantLoadBalancing},
		"ring hash":         {annotations: map[string]string{AnnotationLoadBalancing: "ring-hash"}, want: ServicePolicy{LoadBalancing: RingHash, HashBy: &HashBy{Source: BySourceIP}}},
		"by header":         {annotations: map[string]string{AnnotationLoadBalancing: "maglev", AnnotationHashBy: "header:X-User"}, want: ServicePolicy{LoadBalancing: Maglev, HashBy: &HashBy{Source: ByHeader, Name: "x-user"}}},
		"by cookie":         {annotations: map[string]string{AnnotationLoadBalancing: "ring-hash", AnnotationHashBy: "cookie:Cart"}, want: ServicePolicy{LoadBalancing: RingHash, HashBy: &HashBy{Source: ByCookie, Name: "Cart"}}},
		"by lasting cookie": {annotations: map[string]string{AnnotationLoadBalancing: "ring-hash", AnnotationHashBy: "cookie:cart:1h"}, want: ServicePolicy{LoadBalancing: RingHash, HashBy: &HashBy{Source: ByCookie, Name: "cart", TTL: time.Hour}}},
		"nothing to hash":   {annotations: map[string]string{AnnotationLoadBalancing: "random", AnnotationHashBy: "source-ip"}, want: ServicePolicy{LoadBalancing: Random}, wantErr: "mizzen.dev/load-balancing, together with ring-hash or maglev"},
	} {
		t.Run(name, func(t *testing.T) {
			got, errs := ServicePolicyOf(c.annotations)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if len(errs) > 1 || (len(errs) == 0) != (c.wantErr == "") || (len(errs) == 1 && !strings.Contains(errs[0].Error(), c.wantErr)) {
				t.Errorf("errors %v, want %q", errs, c.wantErr)
			}
			if _, _, errs := CallsOf(OnService, c.annotations, nil); name != "others'" && len(errs) > 0 {
				t.Errorf("also told as calls: %v", errs)
			}
		})
	}
}

// A bad value changes nothing: the calls are hashed by the default.
func TestBadHashBy(t *testing.T) {
	for _, value := range []string{"", "header", "header:", "header:a b", "header:a:b", "cookie:", "cookie:a:", "cookie:a:0s", "cookie:a:1500ms", "cookie:a:1h:2h", "source-ip:x", "ip"} {
		got, errs := ServicePolicyOf(map[string]string{AnnotationLoadBalancing: RingHash, AnnotationHashBy: value})
		if len(errs) != 1 || errs[0].Want != wantHashBy || errs[0].Value != value || !reflect.DeepEqual(got.HashBy, &HashBy{Source: BySourceIP}) {
			t.Errorf("%q: %+v, %v", value, got.HashBy, errs)
		}
	}
}

func TestPolicyIsForServices(t *testing.T) {
	for on, annotations := range map[Object]map[string]string{
		OnRoute:   {AnnotationMaxRequests: "5"},
		OnService: {AnnotationMaxRequests + ".pay": "5"},
	} {
		if _, _, errs := CallsOf(on, annotations, []string{"pay"}); len(errs) != 1 {
			t.Errorf("%s: %v", on, errs)
		}
	}
}
