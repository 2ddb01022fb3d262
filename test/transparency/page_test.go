package transparency

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// docs/transparency.md says what the table of differences says. Its other table is of test/e2e.
func TestPageIsFresh(t *testing.T) {
	golden.CheckSection(t, "../../docs/transparency.md", "exchanges", page())
}

// counts are exchanges in all ways in which they are tried, and those of them of which the table says that they differ.
type counts struct{ exchanges, tried, different int }

// atFirst are the counts before anything was mended.
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
	b.WriteString("## Known differences\n\n| what | what one sees | why | the way out | where | exchanges |\n|---|---|---|---|---|---|\n")
	for i := range differences {
		d := &differences[i]
		number, ways := extent(d)
		sometimes := ""
		if d.sometimes {
			sometimes = "sometimes: "
		}
		fmt.Fprintf(&b, "| **%s** | %s%s | %s | %s | %s | %d |\n", d.what, sometimes, d.seen, d.why, d.out, ways, number)
	}
	b.WriteString("\n## What is tried\n\n| exchanges of | number | tried | known differences |\n|---|---|---|---|\n")
	kinds, byKind := kindsOf(exchanges())
	for _, kind := range kinds {
		c := count(byKind[kind])
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", kind, c.exchanges, c.tried, c.different)
	}
	b.WriteString("\n## Layouts\n\nEach is compared with a call from a pod without a sidecar to one without, by its address.\n\n| layout | ports declared |\n|---|---|\n")
	for _, l := range layouts {
		fmt.Fprintf(&b, "| %s | %s |\n", l.name, joined(l.protocols))
	}
	b.WriteString("\n\"Strict\" has `mizzen.dev/mtls: strict`, \"judged\" a policy that looks at the path of each request and allows it,\n\"routed\" a route for each port. Calls are made by Service, where nothing else is said.\n")
	return []byte(b.String())
}

// places are ways in words.
var places = map[string]string{
	httpReads: "where a sidecar reads HTTP", callerReads: "where the caller's sidecar reads HTTP", judgedReads: "at a port with a policy of requests",
	looks: "undeclared ports; plain callers of the mesh",
}

func joined(p []protocol) string {
	var out []string
	for _, p := range p {
		out = append(out, string(p))
	}
	return strings.Join(out, ", ")
}

// extent is how many exchanges an entry has, and in which layouts.
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

// kindsOf puts exchanges together by the first words of their name.
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
