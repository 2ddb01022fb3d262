package envoy

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

const connectMethod = "CONNECT"

// switched are the protocols to which servers switch an HTTP/1.1 connection: WebSocket; tcp, for Docker and others;
// spdy/3.1, which kubectl exec spoke before WebSocket; the two of Tailscale's servers; reverse HTTP. Envoy has no wildcard
// for protocols. It never offers h2c to the server, which RFC 9113 has deprecated.
var switched = []string{"websocket", "tcp", "spdy/3.1", "derp", "tailscale-control-protocol", "ptth/1.0"}

// upgrades are the protocols that are passed on.
var upgrades = append([]string{connectMethod}, switched...)

// otherUpgrades are ignored, as a server ignores protocols that it does not know: an upgrade is only an offer. Otherwise
// Envoy would refuse the request.
// https://www.rfc-editor.org/rfc/rfc9110#section-7.8
var otherUpgrades = []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
	SafeRegex: &matcherv3.RegexMatcher{Regex: "(?s)" + noneOf(switched)},
}}}

func upgradeConfigs(names []string) []*hcmv3.HttpConnectionManager_UpgradeConfig {
	out := make([]*hcmv3.HttpConnectionManager_UpgradeConfig, len(names))
	for i, name := range names {
		out[i] = &hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: name}
	}
	return out
}

// noneOf returns a regular expression that matches every text but the words, ignoring the case of ASCII letters. RE2 has no
// negative lookahead, so the expression follows the words' common beginnings, and matches a text that leaves them or ends
// too early.
func noneOf(words []string) string {
	rest := map[byte][]string{}
	ends := false
	for _, w := range words {
		if w == "" {
			ends = true
			continue
		}
		rest[w[0]] = append(rest[w[0]], w[1:])
	}
	if len(rest) == 0 {
		return ".+"
	}
	var alternatives []string
	var known strings.Builder
	for _, c := range slices.Sorted(maps.Keys(rest)) {
		letter := regexp.QuoteMeta(string(c))
		if upper := strings.ToUpper(string(c)); upper != string(c) {
			letter += upper
		}
		known.WriteString(letter)
		alternatives = append(alternatives, "["+letter+"]"+noneOf(rest[c]))
	}
	out := "(?:" + strings.Join(append(alternatives, "[^"+known.String()+"].*"), "|") + ")"
	if !ends {
		out += "?"
	}
	return out
}
