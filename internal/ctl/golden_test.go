package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
)

// A case has cmd.txt, the command lines; in.yaml, their stdin; cluster.yaml, the objects of the cluster, without
// which there is none; forbidden.txt, the kinds of which none may be read; and out.txt, what they write and how they end.
func TestRoutesAndCheckGolden(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for _, root := range []string{"testdata/routes", "testdata/check"} {
		golden.Run(t, root, func(t *testing.T, c *golden.Case) {
			in, _ := c.ReadOptional(t, "in.yaml")
			cluster, ok := c.ReadOptional(t, "cluster.yaml")
			connect := noCluster
			if ok {
				forbidden, _ := c.ReadOptional(t, "forbidden.txt")
				connect = clusterOf(t, cluster, strings.Fields(string(forbidden)))
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

// clusterOf is a cluster with these objects. Secrets of type kubernetes.io/tls without data get a certificate.
func clusterOf(t *testing.T, content []byte, forbidden []string) connector {
	t.Helper()
	r := readObjects([]source{{"cluster.yaml", content}}, "default")
	if len(r.findings) > 0 {
		t.Fatal(r.findings)
	}
	builder := fake.NewClientBuilder().WithScheme(kubescheme.New())
	for _, o := range slices.Concat(r.objects, r.referred) {
		if secret, ok := o.Object.(*corev1.Secret); ok && secret.Type == corev1.SecretTypeTLS && len(secret.Data) == 0 {
			valid, err := validObject(o.id(), false)
			if err != nil {
				t.Fatal(err)
			}
			secret.Data = valid.(*corev1.Secret).Data
		}
		builder.WithObjects(o.Object)
	}
	no := func(o runtime.Object) error {
		gvk, err := apiutil.GVKForObject(o, kubescheme.New())
		if kind := strings.TrimSuffix(gvk.Kind, "List"); err == nil && slices.Contains(forbidden, kind) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: strings.ToLower(kind)}, "", errors.New("not in this case"))
		}
		return err
	}
	builder.WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := no(list); err != nil {
				return err
			}
			return c.List(ctx, list, opts...)
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := no(o); err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
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
