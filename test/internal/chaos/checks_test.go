package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/mizzen-mesh/mizzen/config"
)

func TestOutOfSync(t *testing.T) {
	const ready = `{"proxy": "ns/a", "connected": "2026-01-01T12:00:00Z", "types": {"Cluster": {"sent": 3}}}`
	for _, c := range []struct{ name, known, want string }{
		{"in sync", ready, ""},
		{"not connected", ``, "ns/a is not connected"},
		{"another one", `{"proxy": "ns/b"}`, "ns/a is not connected"},
		{"waits", `{"proxy": "ns/a", "types": {"Cluster": {"unacknowledged": true}}}`, "ns/a has not answered to Cluster"},
		{"an old connection waits", ready + `,{"proxy": "ns/a", "connected": "2026-01-01T11:59:00Z", "types": {"Cluster": {"unacknowledged": true}}}`, ""},
		{"refuses", `{"proxy": "ns/a", "nacks": {"Listener": {"time": "2026-01-01T12:00:01Z", "error": "bad"}}}`, "ns/a refuses Listener: bad"},
		{"has refused before", `{"proxy": "ns/a", "nacks": {"Listener": {"time": "2026-01-01T11:00:01Z", "error": "bad"}}}`, ""},
	} {
		var known []proxy
		if err := json.Unmarshal([]byte("["+c.known+"]"), &known); err != nil {
			t.Fatal(err)
		}
		if got := outOfSync([]string{"ns/a"}, known, began); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEventCounts(t *testing.T) {
	of := func(uid, name string, count, series int32) corev1.Event {
		e := corev1.Event{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: name}, Count: count}
		if series > 0 {
			e.Series = &corev1.EventSeries{Count: series}
		}
		return e
	}
	before := []corev1.Event{of("1", "a", 50, 0), of("2", "c", 9, 0)}
	got := eventCounts([]corev1.Event{of("1", "a", 53, 0), of("3", "a", 0, 0), of("4", "b", 0, 7), of("2", "c", 9, 0)}, before)
	if want := "map[Pod ns/a:4 Pod ns/b:7]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestExposed(t *testing.T) {
	pod := func(labels map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
	}
	for _, c := range []struct {
		labels map[string]string
		want   bool
	}{
		{nil, true},
		{map[string]string{config.LabelInjection: config.InjectionDisabled}, false},
		{map[string]string{"gateway.networking.k8s.io/gateway-name": "public"}, false},
	} {
		if got := exposed(pod(c.labels)); got != c.want {
			t.Errorf("labels %v: %t, want %t", c.labels, got, c.want)
		}
	}
}

func TestMetric(t *testing.T) {
	const page = "# HELP go_goroutines x\n# TYPE go_goroutines gauge\ngo_goroutines_other 1\ngo_goroutines 12\nenvoy_server_memory_allocated{} 3.5e+06\n"
	for name, want := range map[string]float64{"go_goroutines": 12, "envoy_server_memory_allocated": 3.5e6} {
		if got, ok := metric(page, name); !ok || got != want {
			t.Errorf("%s: %v, %t, want %v", name, got, ok, want)
		}
	}
	if _, ok := metric(page, "go"); ok {
		t.Error("there is no metric go")
	}
}

// All that is applied is YAML with a kind and a name.
func TestManifests(t *testing.T) {
	all := fmt.Sprintf(deployment, "a", 2, "image", "b: c") + fmt.Sprintf(callingPod, "a", "image", "b: c", "") +
		fmt.Sprintf(service, "a", "app: a", "") + headless + policy + fmt.Sprintf(routes, 1, 2) + gateway
	if strings.Contains(all, "%!") {
		t.Fatal(all)
	}
	n := 0
	for _, doc := range strings.Split(all, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil || o.Kind == "" || o.Metadata.Name == "" {
			t.Errorf("%v: %+v of\n%s", err, o, doc)
		}
		n++
	}
	if n != 11 {
		t.Errorf("%d objects, want 11", n)
	}
}

func TestClients(t *testing.T) {
	all := clients("ns", 20)
	if len(all) != Clients || Clients*20 > MaxRate {
		t.Errorf("%d clients, want %d, with at most %d calls a second", len(all), Clients, MaxRate)
	}
	held, direct, names := 0, 0, map[string]bool{}
	for _, c := range all {
		names[c.name] = true
		if c.held {
			held++
		}
		if c.direct {
			direct++
		}
	}
	if held != 1 || direct != 1 || len(names) != Clients {
		t.Errorf("%d hold a connection, %d call addresses of pods, %d names", held, direct, len(names))
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Duration: time.Minute, Rate: 20}, ""},
		{Options{Duration: 0, Rate: 20}, "duration: 0s: want more than 0"},
		{Options{Duration: time.Minute, Rate: 21}, "rate: 21: want 1 to 20 calls a second of each of 15 clients"},
		{Options{Duration: time.Minute, Rate: 20, Only: []string{"pod-deleted", "fire"}}, `fault "fire": want some of pod-deleted, `},
	} {
		err := c.o.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// Every fault is described, has a name of its own, and fits into the list.
func TestFaults(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range faults {
		if f.do == nil || f.about == "" || seen[f.name] || len(f.name) > 20 {
			t.Errorf("%+v", f)
		}
		seen[f.name] = true
	}
	if n := strings.Count(List(), "\n"); n != len(faults) {
		t.Errorf("%d lines for %d faults", n, len(faults))
	}
}

// The kernel takes the rules that cut a pod off.
func TestDrops(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	for _, program := range []string{"unshare", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	for _, which := range []string{"", "numgen random mod 100 < 5"} {
		cmd := exec.Command("unshare", "--net", "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(drops(which) + "delete table inet " + dropTable + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", which, err, out)
		}
	}
}

func TestLeftovers(t *testing.T) {
	const gone, other = "0a1b2c3d-0000-1111-2222-333344445555", "99999999-0000-1111-2222-333344445555"
	proc, cgroups := t.TempDir(), t.TempDir()
	link := func(target string, name ...string) {
		t.Helper()
		path := filepath.Join(append([]string{proc}, name...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	write := func(text string, name ...string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(append([]string{proc}, name...)...), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid, uid := range map[string]string{"10": other, "20": gone} {
		link("net:["+pid+"]", pid, "ns", "net")
		link("mnt:[1]", pid, "ns", "mnt")
		link("/bin/envoy", pid, "exe")
		write("0::/pod"+uid+"/x\n", pid, "cgroup")
		write(pid+" (a) S "+strings.Repeat("1 ", 18)+"7 0\n", pid, "stat")
	}
	link("net:[1]", "30", "ns", "net") // no pod's
	link("mnt:[2]", "30", "ns", "mnt")
	write("1 2 0:4 net:[40] /run/netns/cni-1 rw - nsfs nsfs rw\n2 1 8:1 / / rw - ext4 x rw\n", "30", "mountinfo")
	for _, dir := range []string{"memory/mizzen/pod" + gone + "/x", "memory/mizzen/pod" + other} {
		if err := os.MkdirAll(filepath.Join(cgroups, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findLeftovers(proc, cgroups, map[string]string{gone: "server-1"}, map[string]string{"net:[40]": "server-1", "net:[10]": "server-1", "net:[50]": "server-2"})
	want := leftovers{[]string{"server-1: 20 envoy"}, []string{"server-1: " + cgroups + "/memory/mizzen/pod" + gone}, []string{"server-1: net:[40]"}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
