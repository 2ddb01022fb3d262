package feature

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// ask gives what Envoy's admin interface says.
func (w *testMesh) ask(path string) (string, error) {
	b, err := w.envoy.Get(path)
	return string(b), err
}

// stat gives one of Envoy's statistics.
func (w *testMesh) stat(name string) int {
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
func (w *testMesh) allocated() (int64, error) {
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
