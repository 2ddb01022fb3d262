package ctl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
)

// causesShown of a call are in the table; -o json has all.
const causesShown = 3

// renderStat has a table of requests, one of connections without requests, and who could not be asked.
func renderStat(v statView, p paint) string {
	var b strings.Builder
	over := "since each sidecar's start"
	if v.windowed {
		over = fmt.Sprintf("in %.0f s", v.Seconds)
	}
	var requests, connections table
	for _, c := range v.Calls {
		if c.Requests > 0 || len(c.Reasons)+len(c.GRPC) > 0 {
			requests.row(c.requestCells(v.windowed)...)
		} else {
			connections.row(c.connectionCells()...)
		}
	}
	fmt.Fprintf(&b, "%s\n", p.in(dim, fmt.Sprintf("%s, as seen by %s", over, proxies(v.Sidecars))))
	if len(v.Calls) == 0 {
		b.WriteString("no calls\n")
	}
	count := "REQUESTS"
	if v.windowed {
		count = "PER SECOND"
	}
	writeTable(&b, &requests, p, "TO", "FROM", count, "SUCCESS", "P50", "P99", "RETRIES", "WHY")
	writeTable(&b, &connections, p, "TO", "FROM", "CONNECTIONS", "OPEN", "FAILED", "SENT", "RECEIVED")
	if v.left > 0 {
		fmt.Fprintf(&b, "and %d more\n", v.left)
	}
	for i, m := range v.Unanswered {
		if i == detailsShown {
			fmt.Fprintf(&b, "\n%s and %d more sidecars could not be asked\n", p.in(yellow, "?"), len(v.Unanswered)-i)
			break
		}
		fmt.Fprintf(&b, "\n%s %s could not be asked: %s\n", p.in(yellow, "?"), p.in(bold, "pod "+m.Namespace+"/"+m.Pod), printable(m.Problem))
	}
	return b.String()
}

func proxies(n int) string {
	if n == 1 {
		return "1 proxy"
	}
	return fmt.Sprintf("%d proxies", n)
}

// writeTable writes a table with a head, if it has rows.
func writeTable(b *strings.Builder, t *table, p paint, head ...string) {
	if len(t.rows) == 0 {
		return
	}
	cells := plain(head...)
	for i := range cells {
		cells[i].colour = dim
	}
	t.rows = slices.Insert(t.rows, 0, cells)
	fmt.Fprintf(b, "\n%s", t.String(p))
}

func (c callsView) ends() []cell {
	return []cell{
		{printable(fmt.Sprintf("%s/%s:%d", c.To.Namespace, c.To.Service, c.To.Port)), bold},
		{text: printable(c.From.Namespace + "/" + c.From.Workload)},
	}
}

func (c callsView) requestCells(rate bool) []cell {
	number := strconv.FormatInt(c.Requests, 10)
	if rate {
		number = perSecond(c.PerSecond)
	}
	latency := func(ms *float64) cell {
		if ms == nil {
			return cell{text: "-"}
		}
		return cell{text: milliseconds(*ms)}
	}
	retries := ""
	if c.Retries > 0 {
		retries = strconv.FormatInt(c.Retries, 10)
	}
	return append(c.ends(), cell{text: number}, c.success(), latency(c.P50), latency(c.P99), cell{text: retries}, cell{text: c.why()})
}

// perSecond shows a rate.
func perSecond(n float64) string {
	if n > 0 && n < 0.1 {
		return "<0.1"
	}
	return fmt.Sprintf("%.1f", n)
}

// success is the part that did not fail. It is 100 % only if none failed.
func (c callsView) success() cell {
	switch {
	case c.Requests == 0:
		return cell{text: "-"}
	case c.Failed == 0:
		return cell{"100 %", green}
	}
	part := min(100*float64(c.Requests-c.Failed)/float64(c.Requests), 99.99)
	return cell{fmt.Sprintf("%.4g %%", part), red}
}

// why names what is not as wanted, the most frequent first: the reasons of the sidecar's own answers, and gRPC statuses and
// statuses from 400 on that servers have given.
func (c callsView) why() string {
	reasons := causes(c.Reasons)
	statuses := maps.Clone(c.GRPC)
	if statuses == nil {
		statuses = map[string]int64{}
	}
	for code, n := range c.Codes {
		if is4xx(code) || is5xx(code) && len(c.GRPC) == 0 { // those of gRPC have both
			statuses[code] += n
		}
	}
	// The sidecar's own answers have statuses, too.
	for reason, n := range c.Reasons {
		status := "503"
		switch {
		case len(c.GRPC) > 0:
			status = code.Code_UNAVAILABLE.String()
		case reason == "timeout":
			status = "504"
		}
		if statuses[status] -= n; statuses[status] <= 0 {
			delete(statuses, status)
		}
	}
	list := slices.Concat(reasons, causes(statuses))
	slices.SortStableFunc(list, func(a, b cause) int { return cmp.Compare(b.times, a.times) })
	var out []string
	for i, r := range list {
		if i == causesShown {
			out = append(out, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		out = append(out, fmt.Sprintf("%d × %s", r.times, r.name))
	}
	return strings.Join(out, ", ")
}

// cause is why requests were not answered as wanted.
type cause struct {
	name  string
	times int64
}

// causes sorts by name.
func causes(of map[string]int64) []cause {
	var list []cause
	for _, name := range slices.Sorted(maps.Keys(of)) {
		list = append(list, cause{printable(name), of[name]})
	}
	return list
}

func (c callsView) connectionCells() []cell {
	n := c.Connections
	var failed cell
	if n.FailedToConnect > 0 {
		failed = cell{strconv.FormatInt(n.FailedToConnect, 10), red}
	}
	return append(c.ends(), cell{text: strconv.FormatInt(n.Opened, 10)}, cell{text: strconv.FormatInt(n.Open, 10)}, failed, cell{text: bytesText(n.Sent)}, cell{text: bytesText(n.Received)})
}

// bytesText shows a number of bytes in its unit.
func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, at := float64(n), 0
	for f >= 999.5 && at < len(units)-1 {
		f, at = f/1000, at+1
	}
	return fmt.Sprintf("%.3g %s", f, units[at])
}
