package capture

import (
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// strays returns rules that drop segments that conntrack cannot assign to a connection, because they are late,
// duplicate or far out of order. These are not redirected, so they would reach the application's port. The kernel knows
// no connection there and would answer with a reset, which would end the segment's real connection. kube-proxy does the
// same for its Services:
// https://kubernetes.io/blog/2019/03/29/kube-proxy-subtleties-debugging-an-intermittent-connection-reset/
func strays(s Settings) []Rule {
	rules := []Rule{
		{Matches: []Match{Placed{}}, Verdict: Return{}, Comment: "nearly all"},
		{Matches: []Match{NotTCP{}}, Verdict: Return{}, Comment: "UDP and DNS are left alone"},
		{Matches: []Match{FromLoopback{}}, Verdict: Return{}, Comment: "inside of the pod"},
		{Matches: []Match{ForeignDestination{}}, Verdict: Return{}, Comment: "forwarded by the pod, not for it"},
	}
	for _, p := range s.uncaptured() {
		rules = append(rules, Rule{Matches: []Match{DestPort(p)}, Verdict: Return{}, Comment: "not redirected"})
	}
	return append(rules, Rule{Verdict: Drop{}, Comment: "would be answered with a reset"})
}

// Placed matches packets that conntrack has assigned to a connection.
type Placed struct{}

func (Placed) text() string { return "ct state != invalid" }

func (Placed) exprs() []any {
	const invalid = 1 << 0 // NF_CT_STATE_INVALID_BIT
	return []any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		compare(expr.CmpOpNeq, binaryutil.NativeEndian.PutUint32(invalid)),
	}
}
