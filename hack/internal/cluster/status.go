package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
)

// Status prints what runs. It is an error if the cluster is not up.
func (c Cluster) Status(w io.Writer) error {
	status, err := supervisor.ReadJSON[supervisor.Status](supervisor.StatusFile(c.Layout))
	if err != nil {
		return errors.New("the cluster is not up (make cluster-up)")
	}
	alive := status.Supervisor.Alive()
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "COMPONENT\tPID\tREADY\tRESTARTS\tRUNS FOR\tLAST EXIT\n")
	var unready []string
	for _, s := range status.Components {
		age := "-"
		if alive && s.PID > 0 {
			age = time.Since(s.Started).Round(time.Second).String()
		}
		if !s.Ready {
			unready = append(unready, s.Name)
		}
		fmt.Fprintf(t, "%s\t%d\t%v\t%d\t%s\t%s\n", s.Name, s.PID, alive && s.Ready, s.Restarts, age, s.LastExit)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	switch {
	case !alive:
		return errors.New("the supervisor was killed; make cluster-up makes a new cluster")
	case len(unready) > 0:
		return fmt.Errorf("not ready: %s", strings.Join(unready, ", "))
	}
	return nil
}

// LogPath returns the log file of a component.
func (c Cluster) LogPath(component string) (string, error) {
	path := c.LogFile(component)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	var names []string
	files, _ := filepath.Glob(c.LogFile("*"))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".log"))
	}
	if len(names) == 0 {
		return "", errors.New("there are no logs: the cluster is not up")
	}
	return "", fmt.Errorf("no log of %q; there are: %s", component, strings.Join(names, ", "))
}
