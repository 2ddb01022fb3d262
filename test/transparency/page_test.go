package transparency

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// docs/transparency.md has the table of differences. Its other table comes from test/e2e.
func TestPageIsFresh(t *testing.T) {
	golden.CheckSection(t, "../../docs/transparency.md", "exchanges", page())
}

// counts are numbers of exchanges, of tries in all layouts, and of tries with a known difference.
type counts struct{ exchanges, tried, different int }

// atFirst are the counts when this test was written.
var atFirst = counts{exchanges: 574, tried: 8143, different: 1516}

func (c counts) String() string {
	return fmt.Sprintf("%d | %d | %d | %d", c.exchanges, c.tried, c.tried-c.different, c.different)
}

func count(exchanges []exchange) counts {
	c := counts{exchanges: len(exchanges)}
	for _, x := range exchanges {
		for _, w := range x.ways() {
			c.tried++
			if known(x.name, w) != nil {
				c.different++
			}
		}
	}
	return c
}

func page() []byte {
	var b strings.Builder
	c := count(exchanges())
	b.WriteString("| | exchanges | tried, in all layouts | the same | known differences |\n|---|---|---|---|---|\n")
	fmt.Fprintf(&b, "| when this test was written | %s |\n| now | %s |\n\n", atFirst, c)
	b.WriteString("## Known differences\n\n| what | effect | why | workaround | where | exchanges |\n|---|---|---|---|---|---|\n")
	for i := range differences {
		d := &differences[i]
		number, ways := extent(d)
		sometimes := ""
		if d.sometimes {
			sometimes = "sometimes: "
		}
		fmt.Fprintf(&b, "| **%s** | %s%s | %s | %s | %s | %d |\n", d.what, sometimes, d.seen, d.why, d.out, ways, number)
	}
	b.WriteString("\n## Exchanges\n\n| kind | number | tried | known differences |\n|---|---|---|---|\n")
	kinds, byKind := kindsOf(exchanges())
	for _, kind := range kinds {
		c := count(byKind[kind])
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", kind, c.exchanges, c.tried, c.different)
	}
	b.WriteString("\n## Layouts\n\nEach layout is compared with a call between two pods without sidecars, by address.\n\n| layout | ports declared |\n|---|---|\n")
	for _, l := range layouts {
		fmt.Fprintf(&b, "| %s | %s |\n", l.name, joined(l.protocols))
	}
	b.WriteString("\nThe server of \"strict\" has `mizzen.dev/mtls: strict`. The server of \"judged\" has a policy that checks the path of each request and allows it.\n\"Routed\" has a route for each port. Calls use the Service's address, unless the layout says otherwise.\n")
	return []byte(b.String())
}

// places describe sets of ways.
var places = map[string]string{
	httpReads: "where a sidecar reads HTTP", callerReads: "where the caller's sidecar reads HTTP", judgedReads: "at a port with a policy about requests",
	looks: "undeclared ports; callers without a sidecar",
}

func joined(p []protocol) string {
	var out []string
	for _, p := range p {
		out = append(out, string(p))
	}
	return strings.Join(out, ", ")
}

// extent returns the number of exchanges of an entry, and their layouts.
func extent(d *difference) (number int, layoutsOf string) {
	var names []string
	for _, x := range exchanges() {
		found := false
		for _, w := range x.ways() {
			if known(x.name, w) == d {
				found = true
				if !slices.Contains(names, w.layout) {
					names = append(names, w.layout)
				}
			}
		}
		if found {
			number++
		}
	}
	if label, ok := places[d.ways]; ok {
		return number, label
	}
	return number, strings.Join(names, "; ")
}

// kindsOf groups exchanges by the first words of their names.
func kindsOf(exchanges []exchange) (kinds []string, byKind map[string][]exchange) {
	byKind = map[string][]exchange{}
	for _, x := range exchanges {
		parts := strings.SplitN(x.name, "/", 3)
		kind := strings.Join(parts[:len(parts)-1], "/")
		kind = strings.NewReplacer("/", ": ", "http1", "HTTP/1", "http2", "HTTP/2", "grpc", "gRPC", "tcp", "TCP").Replace(kind)
		if byKind[kind] == nil {
			kinds = append(kinds, kind)
		}
		byKind[kind] = append(byKind[kind], x)
	}
	return kinds, byKind
}
