package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/mizzen-mesh/mizzen/config"
)

func TestBadFlagsAndConfiguration(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.yaml")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	noImage := filepath.Join(t.TempDir(), "none.yaml")
	for file, text := range map[string]string{good: "sidecar: {image: x}", bad: "sidecar: {image: x, concurrency: 99}", noImage: "{}"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"unknown flag", []string{"--nope"}, []string{"--nope"}},
		{"an argument", []string{"serve"}, []string{"serve"}},
		{"no namespace", []string{"--namespace="}, []string{"--namespace", "want a name"}},
		{"port out of range", []string{"--http-port=70000"}, []string{"--http-port", "70000", "1 to 65535"}},
		{"port taken", []string{"--http-port=9443"}, []string{"--http-port", "9443", "--webhook-port"}},
		{"identity port taken", []string{"--identity-port=15010"}, []string{"--identity-port", "15010", "--xds-port"}},
		{"no service account", []string{"--service-account="}, []string{"--service-account", "want a name"}},
		{"log level", []string{"--log-level=loud"}, []string{"--log-level", "loud", "warning"}},
		{"shutdown delay", []string{"--shutdown-delay=-1s"}, []string{"--shutdown-delay", "-1s"}},
		{"lifetimes", []string{"--webhook-ca-lifetime=1h"}, []string{"--webhook-ca-lifetime", "24h", "20m"}},
		{"no file", []string{"--config=/nonexistent"}, []string{"--config", "/nonexistent"}},
		{"bad field", []string{"--config=" + bad}, []string{"sidecar.concurrency", "99", "0 to 64"}},
		{"no image", []string{"--config=" + noImage}, []string{"sidecar.image", noImage}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := newCommand()
			cmd.SetArgs(append([]string{"--namespace=mizzen-system", "--config=" + good}, tt.args...))
			err := cmd.ExecuteContext(t.Context())
			if !errors.As(err, &usageError{}) {
				t.Fatalf("error %v, want a usage error", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message does not say %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestEveryLogLevelIsKnown(t *testing.T) {
	for _, level := range config.LogLevels {
		if _, ok := slogLevels[level]; !ok {
			t.Errorf("%s is missing", level)
		}
	}
}

func TestReadiness(t *testing.T) {
	r := newReadiness(logr.Discard())
	var note string
	var err error
	r.add("part", func() (string, error) { return note, err })
	want := func(status int, line string) {
		t.Helper()
		w := httptest.NewRecorder()
		r.ServeHTTP(w, nil)
		if w.Code != status || !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("status %d, want %d with %q; body:\n%s", w.Code, status, line, w.Body)
		}
	}
	want(200, "[+] part")
	note = "flawed"
	want(200, "[!] part: flawed")
	err = errors.New("broken")
	want(503, "[-] part: broken")
	note, err = "", nil
	r.shuttingDown.Store(true)
	want(503, "[-] shutdown: shutting down")
}

func TestAPIServerAwayIsANoteAndNotAnError(t *testing.T) {
	var err error
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &apiHealth{
		probe: func(context.Context) error { return err },
		now:   func() time.Time { return now },
		up:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "up"}),
		log:   logr.Discard(),
	}
	h.look(t.Context())
	if note, _ := h.note(); note != "" {
		t.Errorf("note %q while it answers", note)
	}
	err = errors.New("connection refused")
	h.look(t.Context())
	now = now.Add(time.Hour)
	h.look(t.Context())
	note, notReady := h.note()
	if notReady != nil || !strings.Contains(note, "2026-01-02T03:04:05Z") || !strings.Contains(note, "connection refused") {
		t.Errorf("note %q, error %v", note, notReady)
	}
	err = nil
	h.look(t.Context())
	if note, _ := h.note(); note != "" {
		t.Errorf("note %q after it came back", note)
	}
}

// A cache that is behind must not cost a pod its sidecar.
func TestNamespaceLabelsAskTheAPIServerWhereTheCacheSaysNo(t *testing.T) {
	namespace := func(name, injection string) *corev1.Namespace {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if injection != "" {
			ns.Labels = map[string]string{config.LabelInjection: injection}
		}
		return ns
	}
	cached := fake.NewClientBuilder().WithObjects(namespace("known", config.InjectionEnabled), namespace("stale", "")).Build()
	live := fake.NewClientBuilder().WithObjects(namespace("stale", config.InjectionEnabled), namespace("fresh", config.InjectionEnabled)).Build()
	labels := cachedLabels(cached, live)
	for _, name := range []string{"known", "stale", "fresh"} {
		got, err := labels(t.Context(), name)
		if err != nil || got[config.LabelInjection] != config.InjectionEnabled {
			t.Errorf("%s: labels %v, error %v", name, got, err)
		}
	}
	if _, err := labels(t.Context(), "nowhere"); err == nil {
		t.Error("no error for a namespace that does not exist")
	}
}

func TestRevisions(t *testing.T) {
	namespace := func(name, revision string) *corev1.Namespace {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if revision != "" {
			ns.Labels = map[string]string{config.LabelRevision: revision}
		}
		return ns
	}
	service := func(namespace, name string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	cached := fake.NewClientBuilder().WithObjects(
		namespace("none", ""), namespace("installed", "canary"), namespace("gone", "old"), namespace("stale", ""),
		service("mizzen-system", "mizzen-controller"), service("mizzen-system", "mizzen-controller-canary"), service("shop", "mizzen-controller-old"),
	).Build()
	live := fake.NewClientBuilder().WithObjects(namespace("none", ""), namespace("stale", "canary"), namespace("fresh", "canary")).Build()
	of := revisions(cached, live, "mizzen-system")
	for name, want := range map[string]string{"none": "", "installed": "canary", "gone": "", "stale": "canary", "fresh": "canary", "nowhere": ""} {
		if got, err := of(t.Context(), name); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

// The objects of a revision are its own, but for the CA and the identity, which are the mesh's.
func TestNamesOfARevision(t *testing.T) {
	o := defaultOptions()
	o.namespace, o.config = "mizzen-system", filepath.Join(t.TempDir(), "mesh.yaml")
	if err := os.WriteFile(o.config, []byte("revision: canary\nsidecar: {image: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mesh, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	got := []string{o.webhookConfigName, o.webhookService, o.webhookSecret, o.identitySecret, o.serviceAccount, mesh.ControlPlaneAddress}
	want := []string{"mizzen-canary", "mizzen-controller-canary", "mizzen-webhook-ca-canary", "mizzen-ca", "mizzen-controller", "mizzen-controller-canary.mizzen-system.svc.cluster.local:15010"}
	if !slices.Equal(got, want) || *mesh.Gateways.Enabled {
		t.Errorf("%q, want %q; Gateways %t", got, want, *mesh.Gateways.Enabled)
	}
}

// A revision with another trust domain would refuse, and be refused by, all others.
func TestRevisionHasToFitTheMainOne(t *testing.T) {
	for name, c := range map[string]struct {
		main string // empty for none
		want []string
	}{
		"the same":             {"trustDomain: cluster.local\nclusterDomain: cluster.local\nidentity: {enabled: true}\nmtls: {mode: strict}\nfieldOfAnotherVersion: 1\n", nil},
		"nothing said":         {"sidecar: {image: x}\n", nil},
		"another trust domain": {"trustDomain: other.example\n", []string{"mesh.trustDomain", "cluster.local", "want other.example", "mizzen-mesh"}},
		"another domain":       {"clusterDomain: other.example\n", []string{"mesh.clusterDomain", "want other.example"}},
		"no identities":        {"identity: {enabled: false}\n", []string{"mesh.identity.enabled: true", "want false"}},
		"the same address":     {"controlPlaneAddress: mizzen-controller-canary.mizzen-system.svc.cluster.local:15010\n", []string{"mesh.controlPlaneAddress", "want another one"}},
		"not YAML":             {"a: b: c\n", []string{"mesh.yaml"}},
		"no main one":          {"", []string{"main control plane", "not found"}},
	} {
		b := fake.NewClientBuilder()
		if c.main != "" {
			b = b.WithObjects(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "mizzen-system", Name: mainConfig}, Data: map[string]string{mainConfigKey: c.main}})
		}
		mesh, err := config.Parse([]byte("revision: canary\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = checkRevision(t.Context(), b.Build(), "mizzen-system", mesh)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", name, err, want)
			}
		}
	}
}

// Replicas of all control planes are asked, so that a root is not used before all sidecars of the mesh trust it.
func TestReplicasOfAllRevisions(t *testing.T) {
	slice := func(namespace, service, pod, address string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}, TargetRef: &corev1.ObjectReference{Name: pod}}},
		}
	}
	o := defaultOptions()
	o.namespace, o.podName = "mizzen-system", "own"
	in := fake.NewClientBuilder().WithObjects(
		slice("mizzen-system", "mizzen-controller", "main-1", "10.0.0.1"), slice("mizzen-system", "mizzen-controller-canary", "canary-1", "10.0.0.2"),
		slice("mizzen-system", "mizzen-controller-own", "own", "10.0.0.3"), slice("mizzen-system", "other", "other-1", "10.0.0.4"), slice("shop", "mizzen-controller", "x", "10.0.0.5"),
	).Build()
	got, err := listReplicas(in, o, 15012)(t.Context())
	slices.Sort(got)
	if want := []string{"10.0.0.1:15012", "10.0.0.2:15012"}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// The same namespace gives the same sidecar, whatever order the cache has.
func TestNamespaceRules(t *testing.T) {
	meta := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "shop", Labels: map[string]string{config.LabelInjection: "enabled"}, Annotations: map[string]string{config.AnnotationMTLS: "strict"},
	}}
	cached := fake.NewClientBuilder().WithObjects(
		&corev1.ResourceQuota{ObjectMeta: meta("shop", "b")}, &corev1.ResourceQuota{ObjectMeta: meta("shop", "a")}, &corev1.ResourceQuota{ObjectMeta: meta("bank", "c")},
		&corev1.LimitRange{ObjectMeta: meta("shop", "d")}, &corev1.LimitRange{ObjectMeta: meta("bank", "e")},
	).Build()
	rules := cachedRules(cached, fake.NewClientBuilder().WithObjects(namespace).Build())
	got, err := rules(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Quotas) != 2 || got.Quotas[0].Name != "a" || len(got.LimitRanges) != 1 || got.LimitRanges[0].Name != "d" || got.Annotations[config.AnnotationMTLS] != "strict" {
		t.Errorf("got %+v", got)
	}
	if _, err := rules(t.Context(), "nowhere"); err == nil {
		t.Error("no error for a namespace that does not exist")
	}
}
