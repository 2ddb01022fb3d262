package transparency

import (
	"context"
	"strings"
	"testing"
)

// layoutsHold shows that the layouts are what their names say: where requests are judged the policy refuses the one that
// it names, and the strict pod has no caller without identity.
func (n *network) layoutsHold(t *testing.T) {
	t.Helper()
	never := answered("never", asking("GET /never HTTP/1.1"), ok)
	never.unserved = true
	for _, l := range layouts {
		if l.to != "judged" {
			continue
		}
		for _, p := range l.protocols {
			if got := n.lone(t.Context(), never, l, p); !strings.Contains(got, " 403 ") || strings.Contains(got, "server") {
				t.Errorf("%s, %s port: the policy does not look at requests:\n%s", l.name, p, got)
			}
		}
	}
	strict := layouts[1]
	strict.from = "outsider"
	hello := exchange{
		unserved: true,
		client:   func(c *side) { c.sends("hello\n"); c.gone() },
		server:   func(s *side) { s.line() },
	}
	if got := n.lone(t.Context(), hello, strict, declaredTCP); strings.Contains(got, "server") {
		t.Errorf("%s: who has no identity is served:\n%s", strict.name, got)
	}
}

// lone makes an exchange once.
func (n *network) lone(ctx context.Context, x exchange, l layout, p protocol) string {
	s := <-n.slots[lane(l, p)]
	defer func() { n.slots[lane(l, p)] <- s }()
	return n.once(ctx, x, l, s, patience)
}
