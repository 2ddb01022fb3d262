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
			dir := t.TempDir()
			file := filepath.Join(dir, tt.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := containerLimit(dir); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
