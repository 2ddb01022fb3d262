package envoy

import (
	"regexp"
	"strings"
	"testing"
)

func TestNoneOf(t *testing.T) {
	words := []string{"tcp", "tc", "websocket", "spdy/3.1", "web-x"}
	re := regexp.MustCompile("^(?s:" + noneOf(words) + ")$")
	for _, w := range words {
		for _, text := range []string{w, strings.ToUpper(w), strings.ToUpper(w[:1]) + w[1:]} {
			if re.MatchString(text) {
				t.Errorf("%q matches", text)
			}
		}
	}
	for _, text := range []string{"", "t", "tcpx", "TLS/1.2", "web", "websocket/13", "spdy/3x1", "spdy/3.10", "web_x", "foo", "h2c", "tcp\n"} {
		if !re.MatchString(text) {
			t.Errorf("%q does not match", text)
		}
	}
}
