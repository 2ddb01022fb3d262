package cluster

import "testing"

func TestCanonical(t *testing.T) {
	for ref, want := range map[string]string{
		"busybox:1":              "docker.io/library/busybox:1",
		"mizzen/proxy:dev":       "docker.io/mizzen/proxy:dev",
		"docker.io/a/b:c":        "docker.io/a/b:c",
		"localhost/a:dev":        "localhost/a:dev",
		"registry.test:5000/a:b": "registry.test:5000/a:b",
	} {
		if got := canonical(ref); got != want {
			t.Errorf("%s: got %s, want %s", ref, got, want)
		}
	}
}
