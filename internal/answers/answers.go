// Package answers is what control plane and agent say to each other, through Envoy, about the answers that a sidecar makes
// itself. It may import the standard library only.
package answers

import (
	"bytes"
	"regexp"
)

// The statistic in which Envoy counts them, its tags, and the runtime key that turns their log on.
const (
	StatPrefix = "mizzen"
	Stat       = "answers"
	TagStatus  = "proxy_status"
	TagCluster = "cluster"
	LogKey     = "mizzen.log_answers"
)

// Metric is what the agent makes of the statistic.
const (
	Metric = "mizzen_answers_total"
	help   = "# HELP " + Metric + " Answers that the sidecar made itself, by side, reason (docs/answers.md) and Service.\n# TYPE " + Metric + " counter\n"
)

const envoyName = "envoy_" + StatPrefix + "_" + Stat

var (
	typeLine = []byte("# TYPE " + envoyName + " ")
	series   = []byte(envoyName + "{")
	parts    = regexp.MustCompile(`^` + envoyName + `\{` + TagStatus + `="mizzen-(outbound|inbound);.* details=\\"([a-z-]+)\\"",` +
		TagCluster + `="(?:outbound/([^/"]+)/([^/"]+)/([0-9]+)|([^"]*))"\} ([0-9]+)\n?$`)
)

// other is the group of a cluster that no Service stands behind.
const other = 6

// Rename gives a line of Envoy's exposition as the agent shows it. Other lines stay as they are; of the statistic, what is
// not understood is left out.
func Rename(line []byte) []byte {
	switch {
	case bytes.HasPrefix(line, typeLine):
		return []byte(help)
	case !bytes.HasPrefix(line, series):
		return line
	}
	m := parts.FindSubmatchIndex(line)
	if m == nil {
		return nil
	}
	labels := `side="$1",reason="$2",destination_namespace="$3",destination_service="$4",destination_port="$5"`
	if m[2*other+1] > m[2*other] { // two series must not become one: Prometheus would take none of the scrape
		labels += `,cluster="$6"`
	}
	return parts.Expand(nil, []byte(Metric+"{"+labels+"} $7\n"), line, m)
}
