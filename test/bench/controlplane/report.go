package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/figures"
)

// report is everything a run measured; it is what -json writes and -from reads.
type report struct {
	Date      time.Time `json:"date"`
	Commit    string    `json:"commit"`
	CPUs      int       `json:"cpus"`
	GoVersion string    `json:"goVersion"`
	Used      int       `json:"used"`
	Endpoints int       `json:"endpoints"`
	Cells     []cell    `json:"cells"`
	Churn     *churn    `json:"churn,omitempty"`
}

// cell is what was measured with S Services and N proxies. Times are in milliseconds, memory in MB (10⁶).
type cell struct {
	Services int `json:"services"`
	Proxies  int `json:"proxies"`
	// Skipped says why nothing was measured.
	Skipped    string     `json:"skipped,omitempty"`
	BaseMB     float64    `json:"baseMB"` // resident with all Services and no proxy
	Fresh      fresh      `json:"fresh"`
	Change     change     `json:"change"`
	NewService newService `json:"newService"`
	Reconnect  fresh      `json:"reconnect"`
	FirstUse   *quantiles `json:"firstUse,omitempty"`
}

// fresh is all proxies connecting at once.
type fresh struct {
	Sync      quantiles        `json:"syncMs"`
	Bytes     float64          `json:"bytesPerProxy"`
	Resources float64          `json:"resourcesPerProxy"`
	Messages  map[string]int64 `json:"messages"`
	CPU       float64          `json:"cpuSeconds"`
	PeakMB    float64          `json:"peakMB"`
	AfterMB   float64          `json:"afterMB"` // resident when all is quiet again
	// LoadCPU and OthersCPU are what the proxies and everybody else on the machine used meanwhile.
	LoadCPU   float64 `json:"loadCPUSeconds"`
	OthersCPU float64 `json:"othersCPUSeconds"`
}

// change is one endpoint changed at a time.
type change struct {
	Count    int              `json:"count"`
	Holders  int              `json:"holders"` // of all the changed endpoints
	Latency  quantiles        `json:"latencyMs"`
	Messages map[string]int64 `json:"messages"`
	CPU      float64          `json:"cpuSeconds"`
}

// newService is one Service more at a time.
type newService struct {
	Count   int       `json:"count"`
	Bytes   float64   `json:"bytesPerProxy"` // and Service, for a proxy that does not call it
	Latency quantiles `json:"latencyMs"`     // until a call reaches it
	CPU     float64   `json:"cpuSeconds"`    // per Service
}

// churn is many endpoint changes a second.
type churn struct {
	Services int              `json:"services"`
	Proxies  int              `json:"proxies"`
	Seconds  float64          `json:"seconds"`
	Changes  int              `json:"changes"`
	Holders  int              `json:"holders"` // EDS messages if none were merged
	Messages map[string]int64 `json:"messages"`
	CPU      float64          `json:"cpuSeconds"`
	PeakMB   float64          `json:"peakMB"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// quantilesOf takes durations in any order.
func quantilesOf(d []time.Duration) quantiles {
	if len(d) == 0 {
		return quantiles{}
	}
	d = slices.Sorted(slices.Values(d))
	at := func(q float64) float64 {
		return float64(d[min(len(d)-1, int(q*float64(len(d))))].Microseconds()) / 1000
	}
	return quantiles{P50: at(0.5), P99: at(0.99), Max: at(1)}
}

func newReport(commit string, used, endpoints int) *report {
	return &report{Date: time.Now().UTC().Truncate(time.Second), Commit: commit, CPUs: runtime.NumCPU(), GoVersion: runtime.Version(), Used: used, Endpoints: endpoints}
}

// write does nothing without a path.
func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func readReport(path string) (*report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// measured are the cells that were not skipped.
func (r *report) measured() []cell {
	return slices.DeleteFunc(slices.Clone(r.Cells), func(c cell) bool { return c.Skipped != "" })
}

// table is a head and its rows, for the terminal and for Markdown.
type table struct {
	head []string
	rows [][]string
}

func (t table) String() string { return figures.Table(t.head, t.rows) }

// tables of a report: what a fresh proxy costs, what a change costs, what a reconnect costs.
func (r *report) tables() []table {
	first := table{head: []string{"Services", "proxies", "KB a proxy", "resources", "in sync p50", "p99", "last", "CPU s", "MB peak", "MB after", "MB before", "CPU s of the proxies", "of others"}}
	second := table{head: []string{"Services", "proxies", "changed endpoints p50", "p99", "EDS a change", "holders", "new Service p50", "p99", "bytes a proxy", "CPU ms", "first use p50", "p99"}}
	third := table{head: []string{"Services", "proxies", "reconnected p50", "last", "KB a proxy", "resources again", "CPU s", "MB peak", "MB after"}}
	for _, c := range r.Cells {
		key := []string{strconv.Itoa(c.Services), strconv.Itoa(c.Proxies)}
		if c.Skipped != "" {
			first.rows = append(first.rows, append(key, "not measured: "+c.Skipped))
			continue
		}
		first.rows = append(first.rows, append(slices.Clip(key), kb(c.Fresh.Bytes), num(c.Fresh.Resources),
			ms(c.Fresh.Sync.P50), ms(c.Fresh.Sync.P99), ms(c.Fresh.Sync.Max), num(c.Fresh.CPU), num(c.Fresh.PeakMB), num(c.Fresh.AfterMB), num(c.BaseMB),
			known(c.Fresh.LoadCPU), known(c.Fresh.OthersCPU)))
		second.rows = append(second.rows, append(slices.Clip(key), c.changes()...))
		third.rows = append(third.rows, append(slices.Clip(key), ms(c.Reconnect.Sync.P50), ms(c.Reconnect.Sync.Max),
			kb(c.Reconnect.Bytes), num(c.Reconnect.Resources), num(c.Reconnect.CPU),
			num(c.Reconnect.PeakMB), num(c.Reconnect.AfterMB)))
	}
	return []table{first, second, third}
}

func (c cell) changes() []string {
	n := float64(max(1, c.Change.Count))
	out := []string{
		ms(c.Change.Latency.P50), ms(c.Change.Latency.P99), num(float64(c.Change.Messages["EDS"]) / n), num(float64(c.Change.Holders) / n),
		ms(c.NewService.Latency.P50), ms(c.NewService.Latency.P99), num(c.NewService.Bytes), num(c.NewService.CPU * 1000),
	}
	if c.FirstUse == nil {
		return append(out, "–", "–") // everything is there before it is used
	}
	return append(out, ms(c.FirstUse.P50), ms(c.FirstUse.P99))
}

func (c *churn) String() string {
	return fmt.Sprintf("Churn: %d endpoint changes in %s s, %d Services, %d proxies: %d CDS, %d LDS, %d SRDS, %d RDS and %d EDS messages "+
		"(%d proxies held what changed, summed over the changes), %s CPU s, %s MB at the peak.",
		c.Changes, num(c.Seconds), c.Services, c.Proxies, c.Messages["CDS"], c.Messages["LDS"], c.Messages["SRDS"], c.Messages["RDS"], c.Messages["EDS"],
		c.Holders, num(c.CPU), num(c.PeakMB))
}

// known is a figure that reports of earlier versions do not have.
func known(v float64) string {
	if v == 0 {
		return "–"
	}
	return num(v)
}

func kb(bytes float64) string { return num(bytes / 1000) }

// ms shows milliseconds, or seconds from ten on.
func ms(v float64) string {
	if v >= 10000 {
		return num(v/1000) + " s"
	}
	return num(v) + " ms"
}

// num shows three digits, and whole numbers from 100 on.
func num(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
