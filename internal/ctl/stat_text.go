package ctl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// causesShown of a call are in the table; -o json has all.
const causesShown = 3

// renderStat has a table of requests, one of connections without requests, and who could not be asked.
func renderStat(v statView, p paint) string {
	var b strings.Builder
	over := "since each sidecar's start"
	if v.Seconds > 0 {
		over = fmt.Sprintf("in %.4g s", v.Seconds)
	}
	var requests, connections table
	for _, c := range v.Calls {
		if c.Requests > 0 || len(c.Reasons) > 0 {
			requests.row(c.requestCells(v.Seconds > 0)...)
		} else {
			connections.row(c.connectionCells()...)
		}
	}
	fmt.Fprintf(&b, "%s\n", p.in(dim, fmt.Sprintf("%s, as seen by %s", over, plural(v.Sidecars, "sidecar"))))
	if len(v.Calls) == 0 {
		b.WriteString("no calls\n")
	}
	count := "REQUESTS"
	if v.Seconds > 0 {
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
		{fmt.Sprintf("%s/%s:%d", c.To.Namespace, c.To.Service, c.To.Port), bold},
		{text: printable(c.From.Namespace + "/" + c.From.Workload)},
	}
}

func (c callsView) requestCells(rate bool) []cell {
	number := strconv.FormatInt(c.Requests, 10)
	if rate {
		number = fmt.Sprintf("%.1f", c.PerSecond)
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
	reasons, own := causes(c.Reasons)
	failures, all := causes(c.GRPC)
	of5xx, of4xx := map[string]int64{}, map[string]int64{}
	for code, n := range c.Codes {
		switch {
		case code >= "500" && all == 0:
			of5xx[code] = n
		case code >= "400" && code < "500":
			of4xx[code] = n
		}
	}
	if all == 0 {
		failures, all = causes(of5xx)
	}
	// The sidecar's own answers are among these, since almost all of them are 5xx.
	switch {
	case own > 0 && all > own:
		failures = []cause{{"other failures", all - own}}
	case own > 0:
		failures = nil
	}
	others, _ := causes(of4xx)
	list := slices.Concat(reasons, failures, others)
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

// causes sorts by name, and adds up.
func causes(of map[string]int64) (list []cause, sum int64) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		list = append(list, cause{printable(name), of[name]})
		sum += of[name]
	}
	return list, sum
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
	for f >= 1000 && at < len(units)-1 {
		f, at = f/1000, at+1
	}
	return fmt.Sprintf("%.3g %s", f, units[at])
}
