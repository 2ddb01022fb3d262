package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProcesses(t *testing.T) {
	const a, b = "0a1b2c3d-0000-1111-2222-333344445555", "99999999-0000-1111-2222-333344445555"
	proc := t.TempDir()
	for _, p := range []struct {
		pid, start      int
		cgroup, program string
	}{
		{30, 300, "0::/mizzen-1/kubepods/besteffort/pod" + a + "/x\n", "/usr/local/bin/envoy"},
		{40, 100, "0::/mizzen-1/kubepods/besteffort/pod" + a + "/y\n", "/pause"},
		{20, 200, "4:memory:/kubepods-pod" + strings.ReplaceAll(b, "-", "_") + ".slice/z\n", "/usr/local/bin/mizzen-controller (deleted)"},
		{50, 1, "0::/system.slice/containerd.service\n", "/usr/bin/containerd"},
	} {
		dir := filepath.Join(proc, fmt.Sprint(p.pid))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (a) b) S %s%d 0\n", p.pid, strings.Repeat("1 ", 18), p.start)
		for name, text := range map[string]string{"cgroup": p.cgroup, "stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(p.program, filepath.Join(dir, "exe")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := processes(proc)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]process{
		a: {{40, a, "pause", 100}, {30, a, "envoy", 300}},
		b: {{20, b, "mizzen-controller", 200}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("processes are\n%v, want\n%v", got, want)
	}
}
