package envoy

import (
	"testing"
	"time"
)

// The kernel takes about the time to notice, and there is a packet before conntrack forgets the connection.
func TestKeepalive(t *testing.T) {
	for timeout, want := range map[time.Duration][2]int64{
		3 * time.Second: {1, 1}, 12 * time.Second: {6, 2}, time.Minute: {30, 10}, 3 * time.Minute: {30, 50}, 24 * time.Hour: {30, 28790},
	} {
		options := keepalive(timeout)
		if got := [2]int64{options[1].GetIntValue(), options[2].GetIntValue()}; got != want {
			t.Errorf("%s: silence and interval %d, want %d", timeout, got, want)
		}
	}
	for timeout, want := range map[time.Duration][3]int64{
		12 * time.Second: {6, 2, 3}, time.Minute: {6, 2, 27}, 24 * time.Hour: {6, 680, 127},
	} {
		options := keepaliveWithin(timeout, 6*time.Second, 2*time.Second)
		if got := [3]int64{options[1].GetIntValue(), options[2].GetIntValue(), options[3].GetIntValue()}; got != want {
			t.Errorf("%s, of callers: silence, interval and number %d, want %d", timeout, got, want)
		}
	}
	if options := keepalive(0); options != nil {
		t.Errorf("of none: %v", options)
	}
}
