package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/metricsdoc"
)

//go:generate go test . -run TestMetricsPageIsFresh -update

// The page lists what the whole process registers: control plane, identity server and webhook.
func TestMetricsPageIsFresh(t *testing.T) {
	registered, err := registeredMetrics()
	if err != nil {
		t.Fatal(err)
	}
	metricsdoc.Check(t, "../../docs/metrics.md", "control-plane", registered)

	// What was registered before the recorder was in place is missing on the page.
	var listed []string
	for _, f := range registered.Families(t) {
		listed = append(listed, f.GetName())
	}
	for _, d := range metricsdoc.Descriptions(t, ctrlmetrics.Registry.(prometheus.Collector)) {
		if !slices.Contains(listed, d.Name) {
			t.Errorf("%s is registered by an init function: register it in registeredMetrics, too", d.Name)
		}
	}
}

// registeredMetrics makes the process's parts, which the libraries allow once in a process.
var registeredMetrics = sync.OnceValues(func() (*metricsdoc.Recorder, error) {
	api := httptest.NewServer(discovery())
	defer api.Close()
	dir, err := os.MkdirTemp("", "mizzen-metrics-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	kubeconfig := filepath.Join(dir, "kubeconfig")
	content := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": [{"name": "test", "cluster": {"server": %q}}], "contexts": [{"name": "test", "context": {"cluster": "test"}}]}`, api.URL)
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		return nil, err
	}
	before, was := os.LookupEnv("KUBECONFIG")
	if err := os.Setenv("KUBECONFIG", kubeconfig); err != nil {
		return nil, err
	}
	defer func() {
		if was {
			_ = os.Setenv("KUBECONFIG", before)
		} else {
			_ = os.Unsetenv("KUBECONFIG")
		}
	}()

	recorder, registry := metricsdoc.NewRecorder(), ctrlmetrics.Registry
	recorder.MustRegister(refusedRequests, buildInfo)
	ctrlmetrics.Registry = recorder
	defer func() { ctrlmetrics.Registry = registry }()
	o := defaultOptions()
	o.namespace, o.podName = "mizzen-system", "mizzen-controller-0"
	mesh := config.Default()
	mesh.Sidecar.Image = "mizzen-proxy"
	_, err = newController(context.Background(), o, mesh, logr.Discard())
	return recorder, err
})

// discovery answers what an API server says of the kinds that it serves, and nothing else.
func discovery() http.Handler {
	groups := map[string]*metav1.APIGroup{}
	mux := http.NewServeMux()
	answer := func(path string, object any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(object)
		})
	}
	serve := func(gv schema.GroupVersion, kinds ...string) {
		list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
		for _, kind := range kinds {
			plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind))
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: plural.Resource, Kind: kind, Namespaced: kind != "Namespace"})
		}
		if gv.Group == "" {
			answer("/api/v1", list)
			return
		}
		answer("/apis/"+gv.String(), list)
		if groups[gv.Group] == nil {
			groups[gv.Group] = &metav1.APIGroup{Name: gv.Group}
		}
		groups[gv.Group].Versions = append(groups[gv.Group].Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version})
	}
	for _, gv := range clientgoscheme.Scheme.PrioritizedVersionsAllGroups() {
		var kinds []string
		for kind := range clientgoscheme.Scheme.KnownTypes(gv) {
			if !strings.HasSuffix(kind, "List") && !strings.HasSuffix(kind, "Options") {
				kinds = append(kinds, kind)
			}
		}
		serve(gv, kinds...)
	}
	serve(schema.GroupVersion{Group: "apiextensions.k8s.io", Version: "v1"}, "CustomResourceDefinition")
	answer("/api", &metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"}})
	all := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, group := range groups {
		all.Groups = append(all.Groups, *group)
	}
	answer("/apis", all)
	return mux
}
