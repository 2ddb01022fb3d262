package ctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

type bugReportOptions struct {
	clusterFlags
	connect connector
	agents  agentConnector
	now     func() time.Time
	system  string
	file    string
}

// worstPods bounds the number of pods that come into a report without being named.
const worstPods = 10

func newBugReportCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := bugReportOptions{connect: connect, agents: agents, now: now}
	cmd := &cobra.Command{
		Use:   "bug-report [POD ...]",
		Short: "Write an archive for a bug report, without secrets",
		Long: fmt.Sprintf(`Write an archive (.tar.gz) for a bug report: what status, install-check, stat and version say; the mesh
configuration; Gateways, routes and policies; of each replica of the control plane its log, its metrics and its debug pages; and of
the named pods the sidecar's log, metrics and identity. Without names it takes up to %d pods of the mesh that are not ready or not connected.

It reads no Secret. It leaves out the environment and the containers of applications, annotations of others, the values of headers and
query parameters in routes, and what Envoy logs at its levels debug and trace. Names of namespaces, workloads, Services and hosts are in it, and so
is what Mizzen's own logs say: look through it before you hand it on.

What may not be read is missing, and errors.txt says why. The exit code is 0 if the archive was written, else 1.`, worstPods),
		Example: `  mizzenctl bug-report
  mizzenctl bug-report web-7d9f.shop -o report.tar.gz`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.add(flags, "namespace of the pods")
	flags.StringVar(&o.system, "system-namespace", config.SystemNamespace, "namespace of the control plane")
	flags.StringVarP(&o.file, "output", "o", "", "file to write, which must not exist (default: mizzen-bug-report-TIME.tar.gz)")
	return cmd
}

func (o *bugReportOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var pods []mesh.Key
	for _, name := range args {
		t, err := o.parseTarget(name, "Pod", o.defaultNamespace)
		if err == nil && t.kind != "" && t.kind != "Pod" {
			err = fmt.Errorf("%q: want a pod", name)
		}
		if err != nil {
			return err
		}
		pods = append(pods, t.Key)
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return err
	}
	a, err := o.agents(&o.clusterFlags)
	if err != nil {
		return err
	}
	name := o.file
	if name == "" {
		name = "mizzen-bug-report-" + o.now().UTC().Format("20060102-150405") + ".tar.gz"
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--output: %q: exists; want a file that does not", name)
	}
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	r := collector{Client: c, agents: a, system: o.system, now: o.now, stderr: stderr}
	r.collect(ctx, pods)
	err = errors.Join(ctx.Err(), r.archive(f), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	_, err = fmt.Fprintf(stdout, "%s: %s\n", name, plural(len(r.files), "file"))
	if n := len(r.failures); n > 0 {
		_, err = fmt.Fprintf(stdout, "%s could not be had: see errors.txt in it\n", plural(n, "part"))
	}
	return err
}

// reportFile is one of an archive.
type reportFile struct {
	name    string
	content []byte
}

// archive writes the files as tar, in gzip.
func (r *collector) archive(out io.Writer) error {
	z := gzip.NewWriter(out)
	t := tar.NewWriter(z)
	for _, f := range r.files {
		header := &tar.Header{Name: "mizzen-bug-report/" + f.name, Mode: 0o600, Size: int64(len(f.content)), ModTime: r.now()}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if _, err := t.Write(f.content); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func (r *collector) add(name string, content []byte, err error) {
	if err != nil {
		r.failures = append(r.failures, name+": "+err.Error())
		return
	}
	r.files = append(r.files, reportFile{name, content})
}

// view adds the result of a command, as it is with -o yaml.
func (r *collector) view(name string, view any) {
	var b bytes.Buffer
	err := write(&b, "yaml", view, nil)
	r.add(name, b.Bytes(), err)
}

// errorsFile names what is missing.
func (r *collector) errorsFile() {
	if len(r.failures) > 0 {
		r.files = append(r.files, reportFile{"errors.txt", []byte(strings.Join(r.failures, "\n") + "\n")})
	}
}
