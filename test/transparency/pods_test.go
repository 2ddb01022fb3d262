package transparency

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	_ "github.com/mizzen-mesh/mizzen/internal/agent"   // what is built and run here: cached results of this
	_ "github.com/mizzen-mesh/mizzen/internal/capture" // test hang on it
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// image is what the proxy's image has.
type image struct{ proxy, envoy string }

// buildImage puts the binaries where every user can run them.
func buildImage(dir string) (image, error) {
	out := image{proxy: filepath.Join(dir, "mizzen-proxy"), envoy: filepath.Join(dir, "envoy")}
	build := exec.Command("go", "build", "-o", out.proxy, "github.com/mizzen-mesh/mizzen/cmd/mizzen-proxy")
	if text, err := build.CombinedOutput(); err != nil {
		return out, fmt.Errorf("build mizzen-proxy: %w\n%s", err, text)
	}
	envoy, err := world.EnvoyPath()
	if err != nil {
		return out, err
	}
	if err := os.WriteFile(out.envoy, nil, 0o644); err != nil {
		return out, err
	}
	return out, unix.Mount(envoy, out.envoy, "", unix.MS_BIND, "") // in a mount namespace of the test's own
}

// startSidecar does in a pod's namespace what the kubelet does: the containers that the injector has added, with their
// arguments, environment and users.
func startSidecar(ctx context.Context, dir string, ns world.NS, pod *corev1.Pod, i image) error {
	capture, proxy := container(pod, config.CaptureContainer), container(pod, config.ProxyContainer)
	if capture == nil || proxy == nil {
		return fmt.Errorf("pod %s has no sidecar", pod.Name)
	}
	home := filepath.Join(dir, pod.Name)
	token := filepath.Join(home, "token")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(token, []byte(pod.Name), 0o644); err != nil {
		return err
	}
	if err := os.Chown(home, config.ProxyUID, config.ProxyUID); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		return err
	}
	agent := command(ctx, i.proxy, pod, proxy, []string{"--envoy=" + i.envoy, "--dir=" + home, "--keep-dir=" + home, "--token-file=" + token})
	agent.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: config.ProxyUID, Gid: config.ProxyUID},
		Pdeathsig:  syscall.SIGKILL,
	}
	ended := make(chan error, 1)
	go func() { ended <- run(ns, agent, log) }()
	// It ends when the sidecar is ready.
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := run(ns, command(starting, i.proxy, pod, capture, nil), log); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("the sidecar of %s: %w\n%s", pod.Name, err, said)
	}
	go func() {
		if err := <-ended; err != nil && ctx.Err() == nil {
			said, _ := os.ReadFile(log.Name())
			fmt.Fprintf(os.Stderr, "the sidecar of %s: %v\n%s\n", pod.Name, err, said[max(0, len(said)-16<<10):])
		}
	}()
	return nil
}

// run stays in the namespace on a thread of its own, which ends with it: a process ends with the thread that has
// started it (Pdeathsig). https://go.dev/issue/27505
func run(ns world.NS, cmd *exec.Cmd, log *os.File) error {
	cmd.Stdout, cmd.Stderr = log, log
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := ns.Do(cmd.Start)
		if err == nil {
			err = cmd.Wait()
		}
		done <- err
	}()
	return <-done
}

func container(pod *corev1.Pod, name string) *corev1.Container {
	i := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &pod.Spec.InitContainers[i]
}

// command is a container's, with its environment.
func command(ctx context.Context, binary string, pod *corev1.Pod, c *corev1.Container, more []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, append(slices.Clone(c.Args), more...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for _, e := range c.Env {
		value := e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			value = field(pod, e.ValueFrom.FieldRef.FieldPath)
		}
		cmd.Env = append(cmd.Env, e.Name+"="+value)
		// As the kubelet does it.
		for i, arg := range cmd.Args {
			cmd.Args[i] = strings.ReplaceAll(arg, "$("+e.Name+")", value)
		}
	}
	return cmd
}

// field is the downward API, as far as the injector uses it.
func field(pod *corev1.Pod, path string) string {
	return map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "metadata.uid": string(pod.UID),
		"spec.serviceAccountName": pod.Spec.ServiceAccountName, "spec.nodeName": pod.Spec.NodeName,
		"status.podIP": pod.Status.PodIP, "status.podIPs": pod.Status.PodIP, "status.hostIP": nodeAddress, "status.hostIPs": nodeAddress,
	}[path]
}
