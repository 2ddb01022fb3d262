package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// agentEnv makes the test binary an agent, for tests that need it as a process of its own: it runs the
// program that the variable names as its Envoy, and exits as mizzen-proxy would.
const agentEnv = "MIZZEN_TEST_AGENT"

func TestMain(m *testing.M) {
	if envoy := os.Getenv(agentEnv); envoy != "" {
		s := testSettings("127.0.0.1:1", "127.0.0.1")
		s.EnvoyPath, s.Dir, s.Listen = envoy, os.Getenv("DIR"), "127.0.0.1:0"
		var exit *ExitError
		if err := Run(context.Background(), s, slog.New(slog.DiscardHandler)); errors.As(err, &exit) {
			os.Exit(exit.Code)
		}
		os.Exit(99)
	}
	os.Exit(m.Run())
}

// running is an agent with the real Envoy, in this process.
type running struct {
	t    *testing.T
	base string // http://host:port of the agent
	dir  string
	stop context.CancelFunc
	// ended gets what Run returned.
	ended chan error
}

func start(t *testing.T, controlPlane string, change func(*Settings)) *running {
	t.Helper()
	return startLogging(t, t.Output(), controlPlane, change)
}

func startLogging(t *testing.T, log io.Writer, controlPlane string, change func(*Settings)) *running {
	t.Helper()
	s := testSettings(controlPlane, "127.0.0.1")
	s.EnvoyPath = envoytest.Path(t)
	s.Dir = t.TempDir()
	s.KeepDir, s.KeepKey = s.Dir, "a key"
	s.Listen = listentest.FreeAddress(t)
	s.Concurrency = 1
	if change != nil {
		change(&s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, base: "http://" + s.Listen, dir: s.Dir, stop: cancel, ended: make(chan error, 1)}
	go func() {
		r.ended <- Run(ctx, s, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	}()
	t.Cleanup(func() {
		cancel()
		if _, ok := r.wait(10 * time.Second); !ok {
			t.Error("the agent did not end")
		}
	})
	return r
}

// wait gives what Run returned. It can be asked more than once.
func (r *running) wait(limit time.Duration) (error, bool) { //nolint:revive // the error is the result
	select {
	case err := <-r.ended:
		r.ended <- err
		return err, true
	case <-time.After(limit):
		return nil, false
	}
}

func (r *running) get(path string) (int, string) {
	res, err := http.Get(r.base + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}

// awaitReady waits until /readyz answers with this status and this text in its body.
func (r *running) awaitReady(status int, text string) {
	r.t.Helper()
	var last string
	eventually(r.t, func() bool {
		code, body := r.get("/readyz")
		last = fmt.Sprint(code, " ", body)
		return code == status && strings.Contains(body, text)
	}, func() string { return fmt.Sprintf("/readyz: %q, want %d with %q", last, status, text) })
}

// envoyPID finds Envoy by its bootstrap file.
func (r *running) envoyPID() int {
	r.t.Helper()
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range cmdlines {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), r.dir) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			return pid
		}
	}
	r.t.Fatal("Envoy does not run")
	return 0
}

func eventually(t *testing.T, condition func() bool, message func() string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal(message())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestReadiness(t *testing.T) {
	addr := listentest.FreeAddress(t)
	r := start(t, addr, nil)
	r.awaitReady(503, "waiting for the control plane ("+addr+"): not connected")
	if code, _ := r.get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d, want 200: the agent itself is well", code)
	}
	cp := startControlPlane(t, addr)
	r.awaitReady(503, "connected, no clusters yet")
	cp.send(clusterType)
	r.awaitReady(503, "connected, no listeners yet")
	code, reason := r.get("/startupz")
	if code != 503 || !strings.Contains(reason, "no listeners yet") {
		t.Errorf("/startupz: %d %q, want 503 and the reason after its wait", code, reason)
	}
	started := make(chan int, 1)
	go func() {
		// Who knows what is missing is answered when Envoy is ready.
		code, _ := r.get("/startupz?" + KnownParameter + "=" + url.QueryEscape(strings.TrimSpace(reason)))
		started <- code
	}()
	for range 2 { // longer than the other would wait if it were as this
		if code, _ := r.get("/startupz?" + KnownParameter + "=something+else"); code != 503 {
			t.Errorf("/startupz: %d, want 503", code)
		}
	}
	select {
	case code := <-started:
		t.Errorf("/startupz: %d, want no answer while the same is missing", code)
		started <- code
	default:
	}
	cp.send(listenerType)
	if code := <-started; code != 200 {
		t.Errorf("/startupz: %d, want 200", code)
	}
	r.awaitReady(200, "ready")
	cp.stop()
	eventually(t, func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, "envoy_control_plane_connected_state{} 0")
	}, func() string { return "Envoy did not notice that the control plane is gone" })
	r.awaitReady(200, "ready") // what Envoy has got is enough to go on
}

func TestReadinessTellsOfRefusedConfiguration(t *testing.T) {
	cp := startControlPlane(t, listentest.FreeAddress(t))
	cp.send(clusterType)
	cp.send(listenerType, &invalidListener)
	start(t, cp.addr, nil).awaitReady(503, "refused what the control plane")
}

func TestEnvoyCannotStart(t *testing.T) {
	s := testSettings("127.0.0.1:1", "127.0.0.1")
	s.EnvoyPath, s.Dir, s.Listen = "/no/such/envoy", t.TempDir(), listentest.FreeAddress(t)
	if err := Run(t.Context(), s, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "/no/such/envoy") {
		t.Errorf("Run returned %v, want an error that names the file", err)
	}
}

// As process 1 the agent inherits orphans. This stand-in for Envoy ends with 42 once its orphan has
// been reaped; signalling a zombie would still succeed.
func TestReapsOrphansAsProcess1(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a PID namespace")
	}
	cmd := asProcess(t, `#!/bin/sh
orphan=$(sh -c 'sh -c "exit 0" >/dev/null & echo $!')
while kill -0 "$orphan" 2>/dev/null; do :; done
exit 42
`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("exit code %d (%v), want 42\n%s", code, err, out)
	}
}

func TestEnvoyDiesWithTheAgent(t *testing.T) {
	cmd := asProcess(t, "#!/bin/sh\necho $$\nexec sleep 600\n")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(out); err != nil { // ends when the child no longer holds the pipe
		t.Error(err)
	}
	_ = cmd.Wait() // killed, as was asked
	eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, func() string { return "Envoy's stand-in still runs" })
}

func asProcess(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	envoy := filepath.Join(dir, "envoy")
	if err := os.WriteFile(envoy, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), agentEnv+"="+envoy, "DIR="+dir)
	return cmd
}

func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		// finish says whether the upstream answers once draining has begun.
		finish bool
	}{
		{"waits for the active request", 30 * time.Second, true},
		{"no longer than the timeout", 200 * time.Millisecond, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(arrived)
				select {
				case <-release:
				case <-r.Context().Done():
				}
			}))
			t.Cleanup(upstream.Close)
			r, proxy := startWithRoute(t, upstream.Listener.Addr(), httpListener, func(s *Settings) { s.DrainTimeout = tt.timeout })
			type answer struct {
				res *http.Response
				err error
			}
			answers := make(chan answer, 1)
			go func() {
				res, err := http.Get("http://" + proxy)
				answers <- answer{res, err}
			}()
			<-arrived
			r.stop()
			if !tt.finish {
				if err, ok := r.wait(10 * time.Second); !ok || err != nil {
					t.Errorf("Run returned %v, %v; want nil", err, ok)
				}
				<-answers
				return
			}
			r.awaitReady(503, "shutting down")
			if _, ok := r.wait(100 * time.Millisecond); ok {
				t.Error("the agent did not wait for the active request")
			}
			close(release)
			a := <-answers
			if a.err != nil || a.res.StatusCode != 200 || !a.res.Close {
				t.Errorf("%+v, %v; want 200 with Connection: close", a.res, a.err)
			}
			if err, ok := r.wait(3 * time.Second); !ok || err != nil {
				t.Errorf("Run returned %v, %v; want nil", err, ok)
			}
		})
	}
}

func TestStopsAtOnceWhenIdle(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	r, proxy := startWithRoute(t, upstream.Listener.Addr(), httpListener, nil)
	client := &http.Client{Transport: &http.Transport{}} // keeps its idle connection
	res, err := client.Get("http://" + proxy)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	begin := time.Now()
	r.stop()
	if err, ok := r.wait(10 * time.Second); !ok || err != nil {
		t.Fatalf("Run returned %v, %v; want nil", err, ok)
	}
	t.Logf("idle stop took %s", time.Since(begin))
	// Far below --drain-timeout, with room for a busy machine: stopGrace is the bound after which Envoy is killed.
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestDrainWaitsForOpaqueConnections(t *testing.T) {
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { upstream.Close() })
	r, proxy := startWithRoute(t, upstream.Addr(), tcpListener, func(s *Settings) { s.DrainTimeout = 30 * time.Second })
	client, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := upstream.Accept()
	if err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(client, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	}
	say("hello") // Envoy connects to the other side a moment before it counts the connection
	r.stop()
	r.awaitReady(503, "shutting down")
	say("still")
	say("there")
	if _, ok := r.wait(100 * time.Millisecond); ok {
		t.Error("the agent did not wait for the connection")
	}
	server.Close()
	client.Close()
	if err, ok := r.wait(3 * time.Second); !ok || err != nil {
		t.Errorf("Run returned %v, %v; want nil", err, ok)
	}
}

// startWithRoute gives an agent whose Envoy forwards from the second result to upstream.
func startWithRoute(t *testing.T, upstream net.Addr, listener func(netip.AddrPort) *listenerv3.Listener, change func(*Settings)) (*running, string) {
	t.Helper()
	proxy := listentest.FreeAddress(t)
	cp := startControlPlane(t, listentest.FreeAddress(t))
	cp.send(clusterType, staticCluster(netip.MustParseAddrPort(upstream.String())))
	cp.send(listenerType, listener(netip.MustParseAddrPort(proxy)))
	r := start(t, cp.addr, change)
	r.awaitReady(200, "ready")
	return r, proxy
}
