package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
)

// A case has cmd.txt, the command lines; in.yaml, their stdin; cluster.yaml, the objects of the cluster, without
// which there is none; and out.txt, what they write and how they end.
func TestRoutesAndCheckGolden(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for _, root := range []string{"testdata/routes", "testdata/check"} {
		golden.Run(t, root, func(t *testing.T, c *golden.Case) {
			in, _ := c.ReadOptional(t, "in.yaml")
			cluster, ok := c.ReadOptional(t, "cluster.yaml")
			connect := noCluster
			if ok {
				connect = clusterOf(t, cluster)
			}
			var out bytes.Buffer
			for line := range strings.Lines(string(c.Read(t, "cmd.txt"))) {
				line = strings.TrimSpace(line)
				fmt.Fprintf(&out, "$ mizzenctl %s\n", line)
				cmd := newCommand(connect, noAgents, goldenNow)
				cmd.SetArgs(words(line))
				cmd.SetIn(bytes.NewReader(in))
				cmd.SetOut(&out)
				cmd.SetErr(&out)
				if err := cmd.Execute(); err != nil {
					fmt.Fprintf(&out, "mizzenctl: %v\n[exit code 1]\n", err)
				}
				out.WriteString("\n")
			}
			c.Check(t, "out.txt", out.Bytes())
		})
	}
}

func noAgents(*clusterFlags) (agents, error) { return nil, errors.New("none in this case") }

func noCluster(*clusterFlags) (client.Client, error) { return nil, errors.New("none in this case") }

func clusterOf(t *testing.T, content []byte) connector {
	t.Helper()
	var maps []*corev1.ConfigMap // which check does not read
	for _, doc := range splitDocuments(content) {
		m := &corev1.ConfigMap{}
		if err := yaml.Unmarshal(doc, m); err == nil && m.Kind == "ConfigMap" {
			maps = append(maps, m)
		}
	}
	r := readObjects([]source{{"cluster.yaml", content}}, "default")
	if len(r.findings) > 0 {
		t.Fatal(r.findings)
	}
	builder := fake.NewClientBuilder().WithScheme(kubescheme.New())
	for _, o := range r.objects {
		builder.WithObjects(o.Object)
	}
	for _, m := range maps {
		builder.WithObjects(m)
	}
	for _, a := range r.accounts {
		builder.WithObjects(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name}})
	}
	c := builder.Build()
	return func(*clusterFlags) (client.Client, error) { return c, nil }
}

// words splits a command line as a shell does, with single quotes.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		out = append(out, strings.Fields(part)...)
	}
	return out
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
