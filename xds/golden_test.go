package xds_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

var codecs = serializer.NewCodecFactory(kubescheme.New())

// TestGolden takes Kubernetes objects through the translator: every resource for every proxy, and every problem and
// condition, stands in out.yaml. The real Envoy then validates all of it.
func TestGolden(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		objects := read(t, c.Read(t, "in.yaml"))
		cfg := config.Default()
		if c.Name == "without-identities" {
			cfg = configtest.WithoutIdentity()
		}
		result := translateAll(cfg, objects...)
		out := render(t, result, cfg)
		if !bytes.Equal(out, render(t, translateAll(cfg, objects...), cfg)) {
			t.Error("the same input gave other bytes")
		}
		c.Check(t, "out.yaml", out)
		validate(t, result.Change.Set)
	})
}

func read(t *testing.T, b []byte) []metav1.Object {
	t.Helper()
	var out []metav1.Object
	for i, doc := range bytes.Split(b, []byte("\n---\n")) {
		if onlyComments(doc) {
			continue
		}
		json, err := utilyaml.ToJSON(doc)
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		object, err := runtime.Decode(codecs.UniversalDeserializer(), json)
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		o, ok := object.(metav1.Object)
		if ok {
			_, ok = translate.IDOf(o)
		}
		if !ok {
			t.Fatalf("document %d: %T is not an input of the mesh", i, object)
		}
		out = append(out, o)
	}
	return out
}

// translateAll is translate.All as if somebody had called a port of each pod, sorted.
func translateAll(cfg *config.Mesh, objects ...metav1.Object) *translate.Result {
	tr := translate.New(cfg)
	for _, o := range objects {
		tr.Set(o)
		if pod, ok := o.(*corev1.Pod); ok {
			tr.Ask(netip.AddrPortFrom(mesh.BuildPod(pod).IPs[0], 9100))
		}
	}
	r := tr.Build()
	slices.SortStableFunc(r.Change.Set, func(a, b envoy.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Variant, b.Variant))
	})
	return r
}

// said are the problems and conditions of a result, a line each.
func said(r *translate.Result) []string {
	var problems, conditions []string
	for _, list := range r.Problems {
		for _, p := range list {
			problems = append(problems, "problem: "+p.String())
		}
	}
	add := func(about string, s mesh.Status) {
		for _, c := range s.Conditions {
			conditions = append(conditions, fmt.Sprintf("%s: %s=%t, %s: %s", about, c.Type, c.True, c.Reason, c.Message))
		}
	}
	for service, list := range r.Statuses {
		for _, s := range list {
			add(fmt.Sprintf("%s, %s", s.Object, service), s)
			if s.Gateway == nil {
				continue
			}
			for _, a := range s.Gateway.Addresses {
				conditions = append(conditions, fmt.Sprintf("%s: address %s", s.Object, a.Value))
			}
			for _, l := range s.Gateway.Listeners {
				about := fmt.Sprintf("%s, listener %s", s.Object, l.Name)
				conditions = append(conditions, fmt.Sprintf("%s: %d routes", about, l.AttachedRoutes))
				add(about, mesh.Status{Conditions: l.Conditions})
			}
		}
	}
	for _, s := range r.PolicyStatuses {
		add(s.Object.String(), s)
	}
	slices.Sort(problems)
	slices.Sort(conditions)
	return append(problems, conditions...)
}

// render writes resources as YAML documents. What does not depend on the inputs stands whole in the
// case "empty-mesh" alone: elsewhere it is left out, and of the outbound listener only the parts
// that depend on the Services are shown, once for all variants.
func render(t *testing.T, r *translate.Result, cfg *config.Mesh) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, text := range said(r) {
		fmt.Fprintf(&out, "# %s\n", text)
	}
	fixed := map[string]bool{}
	if base := translate.All(cfg).Change.Set; len(base) < len(r.Change.Set) {
		for _, r := range base {
			fixed[r.Type+r.Name+r.Class+r.Variant] = true
		}
	}
	for _, r := range r.Change.Set {
		message := r.Message
		variant, namespace, _ := strings.Cut(r.Variant, "@")
		if fixed[r.Type+r.Name+r.Class+variant] {
			l, ok := message.(*listenerv3.Listener)
			switch {
			case ok && r.Name == "outbound" && variant == "dual":
				message = &listenerv3.Listener{
					FilterChainMatcher: l.FilterChainMatcher, ListenerFilters: l.ListenerFilters,
					FilterChains: slices.DeleteFunc(slices.Clone(l.FilterChains), func(c *listenerv3.FilterChain) bool {
						return !strings.HasPrefix(c.Name, "outbound/") // of routes
					}),
				}
			case ok && namespace != "" && variant == "dual":
				message = &listenerv3.Listener{AdditionalAddresses: l.AdditionalAddresses}
			default:
				continue
			}
		}
		if l, ok := message.(*listenerv3.Listener); ok && r.Class != "" && r.Variant != "dual" {
			message = &listenerv3.Listener{Name: l.Name, Address: l.Address, AdditionalAddresses: l.AdditionalAddresses} // all else is the same
		}
		json, err := protojson.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		body, err := yaml.JSONToYAML(json)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "---\n# %s\n", r.Type)
		if r.Class != "" {
			fmt.Fprintf(&out, "# only for proxies of pods that take: %s\n", r.Class)
		}
		if r.Variant != "" {
			fmt.Fprintf(&out, "# only for proxies with: %s\n", r.Variant)
		}
		if r.Lazy {
			out.WriteString("# only for proxies that ask for it by name\n")
		}
		if r.Type == envoy.PodAddressType {
			fmt.Fprintf(&out, "%s: ", r.Name)
		}
		out.Write(body)
	}
	return out.Bytes()
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' {
			return false
		}
	}
	return true
}
