package xds_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// FuzzObjects: whatever stands in the cluster's objects, the control plane goes on, tells what it works around,
// and gives nothing out that Envoy would refuse.
func FuzzObjects(f *testing.F) {
	cases, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(cases) == 0 {
		f.Fatal(err)
	}
	for _, path := range cases {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	objects := kubescheme.New()
	cfg := config.Default()
	cfg.MTLS.TrustDomain = cfg.TrustDomain
	f.Fuzz(func(t *testing.T, content []byte) {
		seen := map[mesh.ID]bool{}
		tr := translate.New(cfg)
		for doc := range bytes.SplitSeq(content, []byte("\n---\n")) {
			if o := objectOf(objects, doc); o != nil {
				if id, ok := translate.IDOf(o); ok && !seen[id] {
					seen[id] = true
					tr.Set(o)
				}
			}
		}
		r := tr.Build()
		for key, err := range r.Errors {
			t.Errorf("Service %s: %v", key, err)
		}
		if err := envoy.Check(r.Change.Set); err != nil {
			t.Error(err)
		}
		for id := range seen {
			tr.Delete(id)
		}
		tr.Build()
	})
}

// objectOf reads a document that is an object of a known kind, as the API server would; nil for others.
func objectOf(objects *runtime.Scheme, doc []byte) metav1.Object {
	var meta metav1.TypeMeta
	if yaml.Unmarshal(doc, &meta) != nil {
		return nil
	}
	object, err := objects.New(meta.GroupVersionKind())
	if err != nil || yaml.Unmarshal(doc, object) != nil {
		return nil
	}
	o, _ := object.(metav1.Object)
	return o
}
