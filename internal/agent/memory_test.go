package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestContainerLimit(t *testing.T) {
	for _, tt := range []struct {
		name, file, text string
		want             uint64
	}{
		{"a limit", "memory.max", "536870912\n", 512 << 20},
		{"none", "memory.max", "max\n", 0},
		{"a limit, version 1", "memory/memory.limit_in_bytes", "268435456\n", 256 << 20},
		{"none, version 1", "memory/memory.limit_in_bytes", "9223372036854771712\n", 0},
		{"no such files", "memory/other", "1", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := containerLimit(cgroupWith(t, tt.file, tt.text)); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestOOMKills(t *testing.T) {
	for _, tt := range []struct {
		name, file, text string
		want             uint64
	}{
		{"version 2", "memory.events", "low 0\nhigh 0\nmax 41\noom 3\noom_kill 2\noom_group_kill 0\n", 2},
		{"version 1", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1},
		{"an old kernel", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0},
		{"no such files", "memory/other", "oom_kill 1", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := oomKills(cgroupWith(t, tt.file, tt.text)); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

// cgroupWith makes a directory with one of a cgroup's files.
func cgroupWith(t *testing.T, name, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
