package ociimage

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFromBinaryAndInspect(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "pause")
	if err := os.WriteFile(binary, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, name := range []string{"a.tar", "b.tar"} {
		archive := filepath.Join(dir, name)
		if err := FromBinary(archive, "docker.io/mizzen/pause:dev", binary); err != nil {
			t.Fatal(err)
		}
		info, err := Inspect(archive)
		if err != nil || len(info.Refs) != 1 || info.Refs[0] != "docker.io/mizzen/pause:dev" || len(info.Layers) != 1 {
			t.Fatal(info, err)
		}
		ids = append(ids, info.ID)
	}
	if ids[0] != ids[1] {
		t.Error("the same program gives two image IDs")
	}
	if _, err := Inspect(binary); err == nil {
		t.Error("no error for a file that is no archive")
	}
}
