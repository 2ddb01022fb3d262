package world

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mizzen-mesh/mizzen/config"
)

// Envoy is a running Envoy.
type Envoy struct {
	*Process
	// Dir may be written by Envoy.
	Dir   string
	admin *http.Client
}

// EnvoyPath is the binary: MIZZEN_ENVOY, or .build/tools/envoy in the repository.
func EnvoyPath() (string, error) {
	path := os.Getenv("MIZZEN_ENVOY")
	if path == "" {
		_, file, _, _ := runtime.Caller(0)
		path = filepath.Join(filepath.Dir(file), "../../../.build/tools/envoy")
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("no Envoy: %w; `make tools` gets it, or set MIZZEN_ENVOY", err)
	}
	return path, nil
}

// AdminSocket is where the admin interface of an Envoy with this directory listens: that is where
// the sidecar's bootstrap puts it.
func AdminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// StartEnvoy runs Envoy with so many workers, as the sidecar's user and in the namespace, and waits
// until it is ready. The bootstrap, YAML or JSON, is made for the directory it is given.
func (n NS) StartEnvoy(workers int, bootstrap func(dir string) ([]byte, error)) (*Envoy, error) {
	dir, err := os.MkdirTemp(os.Getenv(dirEnv), "envoy-")
	if err != nil {
		return nil, err
	}
	e := &Envoy{Dir: dir, admin: overSocket(AdminSocket(dir))}
	text, err := bootstrap(dir)
	if err != nil {
		return nil, err
	}
	binary, err := e.prepare(text)
	if err != nil {
		return nil, err
	}
	//nolint:noctx // Close ends it
	cmd := exec.Command(binary, "-c", e.bootstrapFile(), "--concurrency", strconv.Itoa(workers), "--disable-hot-restart", "-l", "warning",
		"--drain-time-s", "86400", "--drain-strategy", "immediate") // as internal/agent starts it
	if e.Process, err = n.StartProxy(cmd); err != nil {
		return nil, err
	}
	return e, Await("Envoy is ready", func() error {
		_, err := e.Get("/ready")
		return err
	})
}

// JSON is a bootstrap for StartEnvoy.
func JSON(b *bootstrapv3.Bootstrap, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(b)
}

func (e *Envoy) bootstrapFile() string { return filepath.Join(e.Dir, "bootstrap.yaml") }

// prepare fills the directory. The binary is mounted into it, because the sidecar's user may not
// reach the one that it lies in.
func (e *Envoy) prepare(bootstrap []byte) (binary string, err error) {
	source, err := EnvoyPath()
	if err != nil {
		return "", err
	}
	binary = filepath.Join(e.Dir, "envoy")
	for path, content := range map[string][]byte{binary: nil, e.bootstrapFile(): bootstrap} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return "", err
		}
	}
	if err := os.Chown(e.Dir, config.ProxyUID, config.ProxyUID); err != nil {
		return "", err
	}
	return binary, unix.Mount(source, binary, "", unix.MS_BIND, "")
}

// Stop ends Envoy and removes its directory. It is called once.
func (e *Envoy) Stop() {
	e.Process.Stop()
	_ = unix.Unmount(filepath.Join(e.Dir, "envoy"), unix.MNT_DETACH)
	os.RemoveAll(e.Dir)
}

// Get asks the admin interface.
func (e *Envoy) Get(path string) ([]byte, error) {
	res, err := e.admin.Get("http://envoy" + path) //nolint:noctx // a socket on this machine
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("admin %s: %s", path, res.Status)
	}
	return body, err
}

func overSocket(path string) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

// Await polls until the condition holds, for two minutes at most.
func Await(what string, condition func() error) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not reached: %s: %w", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
