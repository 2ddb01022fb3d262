// Package cluster brings the embedded cluster of a checkout up and down.
package cluster

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mizzen-mesh/mizzen/hack/internal/components"
	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/node"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

// Cluster is the embedded cluster of one checkout.
type Cluster struct {
	layout.Layout
	Log *progress.Log
}

// Up makes sure that a healthy cluster of the version runs. It does not change a running cluster. It removes the
// remains of a cluster that does not run, and starts a new one, because repairing a half-dead cluster would have to be
// right for every way to die.
func (c Cluster) Up(set tools.Set, version components.Version) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if spec, err := c.running(); err == nil && c.complete() {
		if spec.Version != version {
			return fmt.Errorf("the cluster runs with %+v, not with %+v: cluster-down first", spec.Version, version)
		}
		if err := c.await(spec); err != nil {
			return fmt.Errorf("%w\nThe cluster runs but is not healthy; use cluster-down and cluster-up to start a new one", err)
		}
		c.Log.Printf("the cluster is up already")
		if !maps.Equal(spec.Tools, set) {
			c.Log.Printf("note: it runs other versions of its programs than this checkout builds; cluster-down and cluster-up change that")
		}
		return nil
	}
	if err := c.clean(); err != nil {
		return err
	}
	spec, err := c.prepare(set, version)
	if err != nil {
		return err
	}
	if err := c.startSupervisor(); err != nil {
		return err
	}
	if err := c.bootstrap(spec); err != nil {
		return err
	}
	if err := os.WriteFile(c.completeFile(), nil, 0o644); err != nil {
		return err
	}
	return c.await(spec)
}

// complete reports whether Up finished bootstrap. If Up was killed earlier, the cluster runs, but lacks things that
// nobody would add later.
func (c Cluster) complete() bool {
	_, err := os.Stat(c.completeFile())
	return err == nil
}

func (c Cluster) completeFile() string { return c.State("bootstrapped") }

// Down removes the cluster and everything that it left on the machine.
func (c Cluster) Down() error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.clean(); err != nil {
		return err
	}
	c.Log.Printf("the cluster is down")
	return nil
}

func (c Cluster) lock() (func(), error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the embedded cluster needs root: it makes network namespaces, mounts and cgroups")
	}
	return proc.Lock(c.Lock(), func() { c.Log.Printf("waiting for another cluster command of this checkout") })
}

// running returns the spec of the cluster if its supervisor runs.
func (c Cluster) running() (supervisor.Spec, error) {
	status, err := supervisor.ReadJSON[supervisor.Status](supervisor.StatusFile(c.Layout))
	if err != nil {
		return supervisor.Spec{}, err
	}
	if !status.Supervisor.Alive() {
		return supervisor.Spec{}, errors.New("the cluster's supervisor does not run")
	}
	return supervisor.ReadJSON[supervisor.Spec](supervisor.SpecFile(c.Layout))
}

// clean removes everything that belongs to the checkout's cluster, whatever
// state it is in.
func (c Cluster) clean() error {
	if status, err := supervisor.ReadJSON[supervisor.Status](supervisor.StatusFile(c.Layout)); err == nil {
		status.Supervisor.Kill() // first, or it starts again what we kill
	}
	cgroup, err := proc.OpenCgroup(c.Cgroup())
	if err != nil {
		return err
	}
	killed, err := cgroup.Destroy()
	if err != nil {
		return fmt.Errorf("remove processes: %w", err)
	}
	if killed > 0 {
		c.Log.Printf("ended %d processes", killed)
	}
	if err := node.Down(c.Layout); err != nil {
		return fmt.Errorf("remove node network: %w", err)
	}
	if err := errors.Join(c.unmount(c.State()), c.unmount(c.Run())); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(c.State()), os.RemoveAll(c.Run()), node.ReleaseNetwork(c.Layout))
}

// unmount detaches what is mounted below dir in this mount namespace. The
// cluster mounts in one of its own, so this is only a guard for RemoveAll.
func (c Cluster) unmount(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // the last mounted first
		fields := strings.Fields(lines[i])
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			err = errors.Join(err, syscall.Unmount(fields[4], syscall.MNT_DETACH))
		}
	}
	return err
}

// prepare sets up all that the components need before they start.
func (c Cluster) prepare(set tools.Set, version components.Version) (supervisor.Spec, error) {
	network, err := node.ClaimNetwork(c.Layout)
	if err != nil {
		return supervisor.Spec{}, fmt.Errorf("choose addresses: %w", err)
	}
	c.Log.Printf("node %s in network namespace %s", network.Node4, c.Netns())
	cgroup, err := proc.OpenCgroup(c.Cgroup())
	if err == nil {
		err = cgroup.Create()
	}
	if err != nil {
		return supervisor.Spec{}, fmt.Errorf("create cgroup: %w", err)
	}
	if err := node.Up(c.Layout, network); err != nil {
		return supervisor.Spec{}, err
	}
	if err := errors.Join(os.MkdirAll(c.State(), 0o755), os.MkdirAll(c.Run(), 0o755)); err != nil {
		return supervisor.Spec{}, err
	}
	in := components.Input{Layout: c.Layout, Network: network, Tools: set, Version: version}
	if err := components.Write(in); err != nil {
		return supervisor.Spec{}, fmt.Errorf("write configuration: %w", err)
	}
	spec := supervisor.Spec{
		Layout: c.Layout, Network: network, Tools: set, Version: version, Components: components.All(in),
		// containerd looks for its shim here, the kubelet for mount, kube-proxy for nft.
		PATH: set["containerd"] + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	return spec, supervisor.WriteJSON(supervisor.SpecFile(c.Layout), spec)
}

// startSupervisor starts this same program again as a daemon inside the node.
func (c Cluster) startSupervisor() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// A copy: the original may be rebuilt while the daemon runs.
	daemon := c.State("supervisor")
	if data, err := os.ReadFile(self); err != nil {
		return err
	} else if err := os.WriteFile(daemon, data, 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(c.LogFile("supervisor"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("nsenter", "--net="+c.NetnsPath(), "--",
		"unshare", "--mount", "--propagation", "slave", "--", daemon, "supervise", supervisor.SpecFile(c.Layout))
	cmd.Dir = filepath.Dir(daemon)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	return cmd.Process.Release()
}
