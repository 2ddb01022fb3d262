package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
)

// outputs are the output formats.
var outputs = []string{"table", "json", "yaml"}

const wantOutput = "table, json or yaml"

// checkOutput checks the flag --output.
func checkOutput(format string) error {
	if !slices.Contains(outputs, format) {
		return fmt.Errorf("--output: %q: want %s", format, wantOutput)
	}
	return nil
}

// write writes a view in one of the formats.
func write(out io.Writer, format string, view any, table func(paint) string) error {
	var text []byte
	var err error
	switch format {
	case "json":
		text, err = json.MarshalIndent(view, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(view)
	default:
		text = []byte(table(paintFor(out)))
	}
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// addMeshFlags adds the flags for the mesh configuration.
func addMeshFlags(flags *pflag.FlagSet, file, system *string) {
	flags.StringVar(file, "mesh-config", "", "file with the mesh configuration (default: ConfigMap "+meshConfigMap+" of the control plane)")
	flags.StringVar(system, "system-namespace", config.SystemNamespace, "namespace of the control plane")
}

// when formats a time with its distance from now.
func when(t, now time.Time) string {
	return t.UTC().Format("2006-01-02 15:04 UTC") + " (" + distance(t, now) + ")"
}

func distance(t, now time.Time) string {
	if d := t.Sub(now); d > 0 {
		return "in " + span(d)
	}
	return span(now.Sub(t)) + " ago"
}

// span formats a duration in its largest unit, rounded down.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
