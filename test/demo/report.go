package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/figures"
	"github.com/mizzen-mesh/mizzen/test/internal/story"
)

const (
	tolerance = 5.0
	barWidth  = 24
)

// ANSI codes, used only where the terminal wants colour.
const (
	bold, red, green, cyan, off = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"
)

func paint(on bool, code, s string) string {
	if !on {
		return s
	}
	return code + s + off
}

// verdict lists what is not as promised.
func verdict(before, after measurement) []string {
	var problems []string
	add := func(what string, err error) {
		if err != nil {
			problems = append(problems, what+": "+err.Error())
		}
	}
	add("gRPC without the mesh", figures.AllOnOne(before.grpc))
	add("HTTP with the mesh", figures.Even(after.http, story.Replicas, tolerance))
	add("gRPC with the mesh", figures.Even(after.grpc, story.Replicas, tolerance))
	return problems
}

// report is the table of protocol and pod, before and after. Pods differ between the two, as they were
// restarted, so each column numbers its own.
func report(before, after measurement, containers []string, colour bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", paint(colour, bold, "Share of the calls that each pod of "+story.Server+" served"))
	var rows [][]string
	for _, p := range []struct {
		name          string
		before, after map[string]int
	}{{"HTTP", before.http, after.http}, {"gRPC", before.grpc, after.grpc}} {
		if len(rows) > 0 {
			rows = append(rows, nil)
		}
		rows = append(rows, protocolRows(p.name, p.before, p.after, podNames(before), podNames(after))...)
	}
	table := figures.Table([]string{"protocol", "pod", "without the mesh", "with the mesh"}, rows)
	if colour {
		table = strings.NewReplacer("█", cyan+"█"+off).Replace(table)
		table = strings.ReplaceAll(table, off+cyan, "")
	}
	for line := range strings.Lines(table) {
		b.WriteString("  " + line)
	}
	fmt.Fprintf(&b, "\nContainers of a %s pod now: %s\n", story.Client, strings.Join(containers, ", "))
	return b.String()
}

// outsideVerdict lists what is not as promised of the calls from outside.
func outsideVerdict(calls map[string]int) []string {
	if err := figures.Even(calls, story.Replicas, tolerance); err != nil {
		return []string{"gRPC from outside: " + err.Error()}
	}
	return nil
}

// outsideReport is a line for each pod that served calls from outside.
func outsideReport(calls map[string]int, colour bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", paint(colour, bold, "From outside of the cluster: one gRPC connection through a Gateway"))
	for i, s := range figures.Shares(calls) {
		fmt.Fprintf(&b, "  pod %d  %5.1f %%  %s\n", i+1, s.Percent, paint(colour, cyan, figures.Bar(s.Percent, barWidth)))
	}
	return b.String()
}

// podNames of a measurement, of both protocols: a pod that one protocol never reached has its row too.
func podNames(m measurement) []string {
	all := maps.Clone(m.http)
	if all == nil {
		all = map[string]int{}
	}
	maps.Copy(all, m.grpc)
	return slices.Sorted(maps.Keys(all))
}

func protocolRows(name string, before, after map[string]int, podsBefore, podsAfter []string) [][]string {
	var rows [][]string
	for i := range max(len(podsBefore), len(podsAfter), story.Replicas) {
		row := []string{"", fmt.Sprintf("%d", i+1), cell(before, podsBefore, i), cell(after, podsAfter, i)}
		if i == 0 {
			row[0] = name
		}
		rows = append(rows, row)
	}
	return rows
}

func cell(calls map[string]int, pods []string, i int) string {
	percent := 0.0
	if i < len(pods) {
		for _, s := range figures.Shares(calls) {
			if s.Pod == pods[i] {
				percent = s.Percent
			}
		}
	}
	return fmt.Sprintf("%5.1f %%  %-*s", percent, barWidth, figures.Bar(percent, barWidth))
}

func conclusion(problems []string, colour bool, took time.Duration) string {
	if len(problems) > 0 {
		return "\n" + paint(colour, red, "✗ not as promised") + "\n  " + strings.Join(problems, "\n  ") + "\n"
	}
	return fmt.Sprintf("\n%s: one gRPC connection, every request balanced; same programs, same YAML. %.0f s in all.\n",
		paint(colour, green, "✓ Balanced"), took.Seconds())
}

// next is what to type now. The commands can be pasted as they are.
func next(kubeconfig, root, namespace string) string {
	built := func(otherwise string, path ...string) string {
		if path := filepath.Join(append([]string{root, ".build"}, path...)...); exists(path) {
			return path
		}
		return otherwise
	}
	kubectl, mizzenctl := built("kubectl", "tools", "kubectl"), built("go run ./cmd/mizzenctl", "bin", "mizzenctl")
	return fmt.Sprintf(`
Try next:
  export KUBECONFIG=%[1]s
  # is the mesh well?
  %[6]s status
  # who calls whom, and how does it go? dashboard shows it in the browser, live
  %[6]s stat --window 0
  %[6]s dashboard
  # the sidecar, in a pod that nobody changed
  %[2]s get pod -n %[3]s -o json | jq -r '.items[].spec | (.initContainers + .containers)[].name'
  # more pods: they get their share within two seconds
  %[2]s scale deployment -n %[3]s %[4]s --replicas=6
  %[2]s get --raw '/api/v1/namespaces/%[3]s/services/%[5]s:8080/proxy/grpc_client?name=%[4]s'
  # your own: label its namespace and restart
  %[2]s label namespace NAMESPACE mizzen.dev/injection=enabled && %[2]s rollout restart deployment -n NAMESPACE
  # measure again at any time
  make demo
`, kubeconfig, kubectl, namespace, story.Server, story.Client, mizzenctl)
}
