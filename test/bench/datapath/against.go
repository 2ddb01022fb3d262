package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// compare measures this build and another one in turns, each time with new namespaces and Envoys, and returns the
// ratios of the sidecars' costs. Other load on the machine thus affects both builds.
func compare(opt options) error {
	path, err := world.EnvoyPath() // otherwise the other build would look next to its own source
	if err != nil {
		return err
	}
	if err := os.Setenv("MIZZEN_ENVOY", path); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mizzen-datapath-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	other, err := otherBuild(dir, opt.against)
	if err != nil {
		return fmt.Errorf("-against: %s: %w", opt.against, err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if opt.only.String() == "" {
		opt.only = regexp.MustCompile("/" + mizzen)
	}
	of := map[string]load.Samples{self: {}, other: {}}
	for round := range opt.rounds {
		builds := []string{self, other}
		if round%2 == 1 {
			builds = []string{other, self}
		}
		for _, build := range builds {
			one, err := once(build, filepath.Join(dir, "samples.json"), opt)
			if err != nil {
				return err
			}
			of[build].AddAll(one)
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, both builds\n", round+1, opt.rounds)
	}
	return reportComparison(os.Stdout, of[self], of[other])
}

// here is the directory of this program's source in the repository, loads that of what it measures with.
const (
	here  = "test/bench/datapath"
	loads = "test/bench/internal/load"
)

// theirs is the part of this program that starts sidecars; it depends on the commit's test/internal/world.
const theirs = "layouts.go"

// otherBuild returns the path of the other build: a given file, or a build of a commit with this program's load. So the
// comparison is of the mesh, not of the measurement.
func otherBuild(dir, against string) (string, error) {
	if s, err := os.Stat(against); err == nil && s.Mode().IsRegular() {
		return filepath.Abs(against)
	}
	source, binary := filepath.Join(dir, "source"), filepath.Join(dir, "datapath")
	if err := command("", "git", "worktree", "add", "--detach", source, against); err != nil {
		return "", err
	}
	err := os.CopyFS(filepath.Join(source, here, "now"), os.DirFS(here))
	if err == nil {
		err = os.RemoveAll(filepath.Join(source, loads))
	}
	if err == nil {
		err = os.CopyFS(filepath.Join(source, loads), os.DirFS(loads))
	}
	if err == nil {
		err = os.Rename(filepath.Join(source, here, theirs), filepath.Join(source, here, "now", theirs))
	}
	if err == nil {
		err = command(source, "go", "build", "-tags", "sidecarsalone", "-o", binary, "./"+here+"/now")
	}
	if gone := command("", "git", "worktree", "remove", "--force", source); err == nil {
		err = gone
	}
	return binary, err
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...) //nolint:noctx // an interrupt ends the child, too
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// once runs one round of a build's measurement.
func once(build, file string, opt options) (load.Samples, error) {
	args := []string{"-rounds", "1", "-duration", opt.duration.String(), "-only", opt.only.String(), "-json", file}
	if opt.mtls {
		args = append(args, "-mtls")
	}
	if err := command("", build, args...); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out load.Samples
	return out, json.Unmarshal(text, &out)
}

// reportComparison prints both builds' figures and the ratio of their medians.
func reportComparison(out io.Writer, ours, others load.Samples) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	load.Head(w)
	for _, s := range scenarios {
		for _, name := range []string{none, httpHTTP, httpL4, mizzen, mizzenMTLS} {
			a, b := ours[s.Name][name], others[s.Name][name]
			load.Row(w, s.Name, name+", this build", func(c load.Column) string { return load.Spread(a, c) }, a, b)
			load.Row(w, s.Name, name+", the other", func(c load.Column) string { return load.Spread(b, c) }, a, b)
			load.Row(w, s.Name, "this : the other", func(c load.Column) string { return load.Ratio(a, b, c) }, a, b)
		}
	}
	return w.Flush()
}
