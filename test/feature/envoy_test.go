package feature

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
)

const proxyUID = config.ProxyUID

// startEnvoy runs Envoy as the sidecar's user until the test ends, and waits until it is live.
func (w *world) startEnvoy() {
	t := w.t
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mizzen-feature-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	settings := agent.Defaults()
	settings.ControlPlane, settings.Dir, settings.Node = w.address, dir, w.node
	boot, err := agent.Bootstrap(settings)
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := protojson.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	binary, file := filepath.Join(dir, "envoy"), filepath.Join(dir, "bootstrap.json")
	for path, content := range map[string][]byte{binary: nil, file: bootstrap} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, proxyUID, proxyUID); err != nil {
		t.Fatal(err)
	}
	// The sidecar's user may not reach the directory that the binary lies in.
	source, err := filepath.EvalSymlinks(envoytest.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, binary, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(binary, unix.MNT_DETACH) })
	cmd := exec.Command(binary, "-c", file, "--concurrency", strconv.Itoa(w.concurrency), "--disable-hot-restart", "-l", "warning")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: proxyUID, Gid: proxyUID},
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	socket := boot.GetAdmin().GetAddress().GetPipe().GetPath()
	w.admin = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	w.await("Envoy is live", func() error {
		_, err := w.ask("/ready")
		return err
	})
}

// ask gives what Envoy's admin interface says.
func (w *world) ask(path string) (string, error) {
	res, err := w.admin.Get("http://envoy" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("admin %s: %s", path, res.Status)
	}
	return string(b), err
}

// stat gives one of Envoy's statistics.
func (w *world) stat(name string) int {
	w.t.Helper()
	text, err := w.ask("/stats?filter=" + url.QueryEscape("^"+strings.ReplaceAll(name, ".", `\.`)+"$"))
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	if _, err := fmt.Sscanf(text, name+": %d", &n); err != nil {
		w.t.Fatalf("statistic %s: %q: %v", name, text, err)
	}
	return n
}

// allocated gives the bytes that Envoy has allocated.
func (w *world) allocated() (int64, error) {
	text, err := w.ask("/memory")
	if err != nil {
		return 0, err
	}
	var memory struct {
		Allocated int64 `json:"allocated,string"`
	}
	err = json.Unmarshal([]byte(text), &memory)
	return memory.Allocated, err
}
