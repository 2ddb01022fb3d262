package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// goldenNow is the time at which cases are told.
func goldenNow() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// fakeAgents answer what agents.yaml says: for "namespace/pod" and a path any JSON, or for "error" a text.
type fakeAgents map[string]map[string]json.RawMessage

func (f fakeAgents) ask(_ context.Context, pod mesh.Key, path string, into any) error {
	answers := f[pod.String()]
	if text, ok := answers["error"]; ok {
		var why string
		if err := json.Unmarshal(text, &why); err != nil {
			return err
		}
		return errors.New(why)
	}
	if answers[path] == nil {
		return errors.New("nobody answers in this case")
	}
	return json.Unmarshal(answers[path], into)
}

// page is ask of any port. A page that is no JSON is a text.
func (f fakeAgents) page(ctx context.Context, pod mesh.Key, _ int, path string) ([]byte, error) {
	var answer json.RawMessage
	if err := f.ask(ctx, pod, path, &answer); err != nil {
		return nil, err
	}
	var text string
	if json.Unmarshal(answer, &text) == nil {
		return []byte(text), nil
	}
	return answer, nil
}

func (f fakeAgents) log(ctx context.Context, pod mesh.Key, container string, previous bool) ([]byte, error) {
	name := container
	if previous {
		name += " before"
	}
	return f.page(ctx, pod, 0, "log of "+name)
}

// A case has cmd.txt, the command lines; cluster.yaml, the objects of the cluster; agents.yaml, what the pods say;
// forbidden.txt, the kinds of which no list may be read; and out.txt, what the commands write and how they end.
func TestIdentityGolden(t *testing.T) { runWithAgents(t, "testdata/identity") }

func TestStatusGolden(t *testing.T) {
	before := lookAgain
	lookAgain = 0
	defer func() { lookAgain = before }()
	runWithAgents(t, "testdata/status")
}

func TestStatGolden(t *testing.T) { runWithAgents(t, "testdata/stat") }

func TestInstallCheckGolden(t *testing.T) { runWithAgents(t, "testdata/install-check") }

func runWithAgents(t *testing.T, root string) {
	golden.Run(t, root, func(t *testing.T, c *golden.Case) {
		answers := fakeAgents{}
		if text, ok := c.ReadOptional(t, "agents.yaml"); ok {
			if err := yaml.UnmarshalStrict(text, &answers); err != nil {
				t.Fatal(err)
			}
		}
		forbidden, _ := c.ReadOptional(t, "forbidden.txt")
		connect := anyClusterOf(t, c.Read(t, "cluster.yaml"), strings.Fields(string(forbidden)))
		var out bytes.Buffer
		for line := range strings.Lines(string(c.Read(t, "cmd.txt"))) {
			line = strings.TrimSpace(line)
			fmt.Fprintf(&out, "$ mizzenctl %s\n", line)
			cmd := newCommand(connect, func(*clusterFlags) (agents, error) { return answers, nil }, goldenNow)
			cmd.SetArgs(words(line))
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			if err := cmd.Execute(); err != nil {
				code := 1
				if exit := (*ExitError)(nil); errors.As(err, &exit) {
					code = exit.Code
				}
				fmt.Fprintf(&out, "mizzenctl: %v\n[exit code %d]\n", err, code)
			}
			out.WriteString("\n")
		}
		c.Check(t, "out.txt", out.Bytes())
	})
}

// anyClusterOf is a cluster with objects of all kinds that are known.
func anyClusterOf(t *testing.T, content []byte, forbidden []string) connector {
	t.Helper()
	scheme := kubescheme.New()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, doc := range splitDocuments(content) {
		if isBlank(doc) {
			continue
		}
		o, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		builder.WithObjects(o.(client.Object))
	}
	no := func(kind string) error {
		if slices.Contains(forbidden, kind) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: strings.ToLower(kind) + "s"}, "", errors.New("not in this case"))
		}
		return nil
	}
	c := builder.WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if kinds, _, err := scheme.ObjectKinds(o); err == nil && kinds[0].Kind != "Pod" && no(kinds[0].Kind) != nil { // pods of one namespace may be read
				return no(kinds[0].Kind)
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			kind := strings.TrimSuffix(gvkOf(t, list).Kind, "List")
			if err := no(kind); err != nil && len(opts) == 0 { // those of one namespace may be read
				return err
			}
			return c.List(ctx, list, opts...)
		},
	}).Build()
	return func(*clusterFlags) (client.Client, error) { return c, nil }
}

// What a pod says is shown, but does nothing to the terminal.
func TestPrintable(t *testing.T) {
	id := printableIdentity(agentapi.Identity{
		Certificate: &agentapi.Certificate{ID: "spiffe://a\x1b[2J", Issuer: "CN=a\u202eb\nc", Serial: "\a"},
		Roots:       []agentapi.Authority{{Subject: "CN=é\xff", Fingerprint: "\r"}}, Trouble: strings.Repeat("x", 5000), ControlPlane: "\x00",
	})
	text := renderIdentity(identityView{Certificate: id.Certificate, Roots: id.Roots, Trouble: id.Trouble, ControlPlane: id.ControlPlane}, goldenNow(), false)
	for _, r := range text {
		if r < ' ' && r != '\n' || r == '\x7f' || r == '\u202e' {
			t.Errorf("%q in %q", r, text)
		}
	}
	if !strings.Contains(text, "CN=a?b?c") || !strings.Contains(text, "CN=é?") || len(text) > 2000 {
		t.Errorf("%q", text)
	}
}

// Whatever pods answer, the commands show something and do not crash.
func FuzzAgentAnswers(f *testing.F) {
	f.Add([]byte(`{"certificate":{"id":"spiffe://x","notAfter":"2026-03-01T12:00:00Z"},"roots":[{"subject":"CN=a"}],"controlPlane":"a:1"}`),
		[]byte(`{"since":"2026-03-01T12:00:00Z","callers":[{"source":"10.0.0.1","port":80,"connections":18446744073709551615,"lastSeen":"0001-01-01T00:00:00Z"},{"source":""}]}`))
	f.Fuzz(func(t *testing.T, identity, callers []byte) {
		var id agentapi.Identity
		var h heard
		if json.Unmarshal(identity, &id) != nil || json.Unmarshal(callers, &h.PlainText) != nil {
			return
		}
		inv := newInventory("mizzen-system")
		inv.addPod(injectedPod("shop", "cart-1", "10.0.0.9"))
		p := inv.pods[0]
		v := inv.identityOf(p)
		v.setIdentity(printableIdentity(id), inv)
		v.setPlain(inv, p, h)
		plain := inv.plain(inv.pods, map[mesh.Key]heard{p.Key: h}, look{})
		for _, text := range []string{renderIdentity(v, goldenNow(), false), renderPlain(plain, goldenNow(), false)} {
			if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("%q", text)
			}
		}
	})
}
