package load

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// HaveH2load tells how to get h2load where it is missing.
func HaveH2load() error {
	if _, err := exec.LookPath("h2load"); err != nil {
		return fmt.Errorf("%w: apt-get install nghttp2-client", err)
	}
	return nil
}

var succeeded = regexp.MustCompile(`requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed`)

// h2load asks as fast as the answers come. (Its fixed rate is one of bursts, each 10 ms.)
func (s Scenario) h2load(t Target, d time.Duration) (Outcome, error) {
	dir, err := os.MkdirTemp("", "mizzen-load-")
	if err != nil {
		return Outcome{}, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "body"), GRPCMessage, 0o600); err != nil {
		return Outcome{}, err
	}
	args := []string{"-c", strconv.Itoa(s.Conns), "-m", strconv.Itoa(s.Streams), "-D", fmt.Sprintf("%dms", d.Milliseconds()), "--connect-to=" + t.Address}
	switch s.Kind {
	case HTTP1:
		args = append(args, "--h1")
	case GRPC:
		args = append(args, "-H", "content-type: application/grpc", "-H", "te: trailers", "-d", "body")
	}
	cmd := exec.Command("h2load", append(args, s.url(t))...) //nolint:noctx // it has a duration
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Outcome{}, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	m := succeeded.FindSubmatch(out)
	if m == nil || string(m[2]) != "0" {
		return Outcome{}, fmt.Errorf("h2load: want no failed request:\n%s", out)
	}
	n, err := strconv.Atoi(string(m[1]))
	return Outcome{Requests: n}, err
}
