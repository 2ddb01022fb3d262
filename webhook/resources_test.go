package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func parsed[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func rulesOf(t *testing.T, limits, quota string) Namespace {
	t.Helper()
	var ns Namespace
	if limits != "" {
		ns.LimitRanges = []*corev1.LimitRange{parsed[corev1.LimitRange](t, "{metadata: {name: small}, spec: {limits: ["+limits+"]}}")}
	}
	if quota != "" {
		ns.Quotas = []*corev1.ResourceQuota{parsed[corev1.ResourceQuota](t, "{metadata: {name: compute}, spec: "+quota+"}")}
	}
	return ns
}

// texts are such as "cpu 50m/- memory 64Mi/128Mi", request and limit.
func texts(r corev1.ResourceRequirements) string {
	names := map[corev1.ResourceName]bool{}
	for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
		for name := range list {
			names[name] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		one := func(list corev1.ResourceList) string {
			if q, ok := list[name]; ok {
				return q.String()
			}
			return "-"
		}
		out = append(out, fmt.Sprintf("%s %s/%s", name, one(r.Requests), one(r.Limits)))
	}
	return strings.Join(out, " ")
}

func TestResourcesFor(t *testing.T) {
	const (
		asConfigured = "cpu 50m/- memory 64Mi/-"
		burstable    = "{containers: [{name: app, resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}}]}"
		guaranteed   = "{containers: [{name: app, resources: {limits: {cpu: 100m, memory: 64Mi}}}]}"
		bestEffort   = "{containers: [{name: app}]}"
	)
	for name, c := range map[string]struct {
		pod, limits, quota string
		sidecar            string
		want               string
		warnings           []string // of each warning a part
	}{
		"no rules":                    {pod: burstable, want: asConfigured},
		"BestEffort":                  {pod: bestEffort, want: asConfigured},
		"Guaranteed stays so":         {pod: guaranteed, want: "cpu 200m/200m memory 128Mi/128Mi", warnings: []string{"cpu has request 200m, limit 200m in place of the configured request 50m, limit none, because of the pod's QoS class Guaranteed", "memory"}},
		"Guaranteed and limits given": {pod: guaranteed, sidecar: "{requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 100m, memory: 64Mi}}", want: "cpu 100m/100m memory 64Mi/64Mi", warnings: []string{"cpu"}},
		"Guaranteed with an init container that is not": {
			pod:  "{initContainers: [{name: i}], containers: [{name: app, resources: {limits: {cpu: 100m, memory: 64Mi}}}]}",
			want: asConfigured,
		},
		"quota on limits":         {pod: burstable, quota: "{hard: {limits.cpu: 4, limits.memory: 4Gi}}", want: "cpu 50m/200m memory 64Mi/128Mi", warnings: []string{"ResourceQuota compute", "mizzen.dev/proxy-memory-limit"}},
		"quota on one limit":      {pod: burstable, quota: "{hard: {limits.memory: 4Gi}}", want: "cpu 50m/- memory 64Mi/128Mi", warnings: []string{"memory"}},
		"quota on requests":       {pod: burstable, quota: "{hard: {requests.cpu: 4, memory: 4Gi}}", want: asConfigured},
		"quota, no request":       {pod: burstable, quota: "{hard: {cpu: 4}}", sidecar: "{requests: {memory: 64Mi}}", want: "cpu 50m/- memory 64Mi/-", warnings: []string{"cpu"}},
		"quota on pods":           {pod: burstable, quota: "{hard: {pods: 4}}", want: asConfigured},
		"quota of another scope":  {pod: burstable, quota: "{hard: {limits.cpu: 4}, scopes: [Terminating]}", want: asConfigured},
		"quota of a priority":     {pod: burstable, quota: "{hard: {limits.cpu: 4}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}}", want: asConfigured},
		"quota of its priority":   {pod: "{priorityClassName: high, " + burstable[1:], quota: "{hard: {limits.cpu: 4}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}}", want: "cpu 50m/200m memory 64Mi/-", warnings: []string{"cpu"}},
		"quota for NotBestEffort": {pod: bestEffort, quota: "{hard: {limits.cpu: 4}, scopes: [NotBestEffort]}", want: "", warnings: []string{"ResourceQuota compute would refuse"}},
		"quota for BestEffort":    {pod: bestEffort, quota: "{hard: {pods: 4}, scopes: [BestEffort]}", want: asConfigured},
		"quota and pod's own":     {pod: "{resources: {limits: {cpu: 1, memory: 1Gi}}, containers: [{name: app}]}", quota: "{hard: {limits.cpu: 4}}", want: asConfigured},
		"defaults that are small": {pod: burstable, limits: "{type: Container, default: {cpu: 100m, memory: 80Mi}, defaultRequest: {cpu: 10m, memory: 10Mi}}", want: "cpu 50m/200m memory 64Mi/128Mi", warnings: []string{"LimitRange small", "LimitRange small"}},
		"defaults that are large": {pod: burstable, limits: "{type: Container, default: {memory: 1Gi}}", want: "cpu 50m/- memory 64Mi/1Gi", warnings: []string{"memory has request 64Mi, limit 1Gi"}},
		"max":                     {pod: burstable, limits: "{type: Container, max: {cpu: 100m, memory: 50Mi}, default: {cpu: 100m, memory: 50Mi}}", want: "cpu 50m/100m memory 50Mi/50Mi", warnings: []string{"cpu", "memory"}},
		"max without defaults":    {pod: burstable, limits: "{type: Container, max: {cpu: 2}}", want: "cpu 50m/200m memory 64Mi/-", warnings: []string{"cpu"}},
		"min":                     {pod: burstable, limits: "{type: Container, min: {cpu: 100m, memory: 100Mi}}", want: "cpu 100m/- memory 100Mi/-", warnings: []string{"cpu", "memory"}},
		"min above the limit":     {pod: burstable, limits: "{type: Container, min: {memory: 100Mi}}", sidecar: "{requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 64Mi}}", want: "cpu 50m/- memory 100Mi/100Mi", warnings: []string{"memory"}},
		"ratio":                   {pod: burstable, limits: "{type: Container, maxLimitRequestRatio: {cpu: 3, memory: 1}}", want: "cpu 67m/200m memory 128Mi/128Mi", warnings: []string{"cpu", "memory"}},
		"ratio and max":           {pod: burstable, limits: "{type: Container, max: {memory: 96Mi}, maxLimitRequestRatio: {memory: 1500m}}", want: "cpu 50m/- memory 64Mi/96Mi", warnings: []string{"memory"}},
		"ratio of pods":           {pod: burstable, limits: "{type: Pod, maxLimitRequestRatio: {cpu: 2}}", sidecar: "{requests: {cpu: 50m}, limits: {cpu: 1}}", want: "cpu 500m/1", warnings: []string{"cpu"}},
		"max of pods":             {pod: burstable, limits: "{type: Container, default: {cpu: 300m}}, {type: Pod, max: {cpu: 350m}}", want: "cpu 50m/150m memory 64Mi/-", warnings: []string{"cpu"}},
		"max of pods leaves none": {pod: burstable, limits: "{type: Pod, max: {cpu: 205m}}", sidecar: "{requests: {cpu: 50m}, limits: {cpu: 50m}}", want: "cpu 50m/50m"},
		"storage":                 {pod: burstable, limits: "{type: Container, max: {ephemeral-storage: 1Gi}, default: {ephemeral-storage: 1Gi}, defaultRequest: {ephemeral-storage: 100Mi}}", want: "cpu 50m/- ephemeral-storage 100Mi/1Gi memory 64Mi/-"},
		"Guaranteed and a max":    {pod: guaranteed, limits: "{type: Container, max: {cpu: 100m, memory: 64Mi}}", want: "cpu 100m/100m memory 64Mi/64Mi", warnings: []string{"LimitRange small", "memory"}},
		"Guaranteed of its own":   {pod: "{resources: {limits: {cpu: 1, memory: 1Gi}}, containers: [{name: app}]}", want: asConfigured},
		"LimitRange of PVCs":      {pod: burstable, limits: "{type: PersistentVolumeClaim, max: {storage: 1Gi}}", want: asConfigured},
		"none wanted by the mesh": {pod: burstable, sidecar: "{requests: {cpu: 1m}}", limits: "{type: Container, default: {memory: 100Mi}, defaultRequest: {memory: 20Mi}}", want: "cpu 1m/- memory 20Mi/100Mi", warnings: []string{"memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: *parsed[corev1.PodSpec](t, c.pod)}
			if c.sidecar == "" {
				c.sidecar = "{requests: {cpu: 50m, memory: 64Mi}}"
			}
			got, warnings := resourcesFor(pod, rulesOf(t, c.limits, c.quota), *parsed[corev1.ResourceRequirements](t, c.sidecar))
			if texts(got) != c.want {
				t.Errorf("got %s, want %s", texts(got), c.want)
			}
			if !slices.EqualFunc(warnings, c.warnings, strings.Contains) {
				t.Errorf("warnings %q, want %q", warnings, c.warnings)
			}
		})
	}
}

func TestNoRoom(t *testing.T) {
	pod := &corev1.Pod{Spec: *parsed[corev1.PodSpec](t, "{containers: [{name: app, resources: {requests: {cpu: 500m}, limits: {cpu: 500m}}}]}")}
	sidecar := *parsed[corev1.ResourceRequirements](t, "{requests: {cpu: 50m}, limits: {cpu: 200m}}")
	for name, c := range map[string]struct{ quota, want string }{
		"room":             {"{hard: {limits.cpu: 1}}", ""},
		"none":             {"{hard: {limits.cpu: 600m}}", "ResourceQuota compute has 600m of limits.cpu left, but the pod needs 700m, of which 200m are for its sidecar"},
		"another scope":    {"{hard: {limits.cpu: 600m}, scopes: [Terminating]}", ""},
		"what is not ours": {"{hard: {pods: 0}}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(noRoom(pod, rulesOf(t, "", c.quota).Quotas, sidecar), "|")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	quota := rulesOf(t, "", "{hard: {requests.cpu: 1}}").Quotas
	quota[0].Status = *parsed[corev1.ResourceQuotaStatus](t, "{hard: {requests.cpu: 1}, used: {requests.cpu: 600m}}")
	if got := noRoom(pod, quota, sidecar); len(got) != 1 || !strings.Contains(got[0], "has 400m of requests.cpu left, but the pod needs 550m, of which 50m are") {
		t.Errorf("what others use: %q", got)
	}
}

// A pod with resources of its own is as large as without the mesh, and the sidecar besides.
func TestPodLevelResources(t *testing.T) {
	sidecar := *parsed[corev1.ResourceRequirements](t, "{requests: {cpu: 50m, memory: 64Mi}}")
	for name, c := range map[string]struct{ pod, want string }{
		"limits alone":             {"{resources: {limits: {cpu: 500m, memory: 256Mi}}, containers: [{name: app}]}", "cpu 550m/550m memory 320Mi/320Mi"},
		"a container asks for CPU": {"{resources: {limits: {cpu: 500m, memory: 256Mi}}, containers: [{name: app, resources: {requests: {cpu: 100m}}}]}", "cpu -/550m memory 320Mi/320Mi"},
		"an init container does":   {"{resources: {limits: {cpu: 500m, memory: 256Mi}}, initContainers: [{name: i, resources: {limits: {memory: 1Mi}}}], containers: [{name: app}]}", "cpu 550m/550m memory -/320Mi"},
		"requests too":             {"{resources: {requests: {cpu: 100m}, limits: {cpu: 500m}}, containers: [{name: app}]}", "cpu 150m/550m"},
		"requests alone":           {"{resources: {requests: {cpu: 100m}}, containers: [{name: app}]}", "cpu 150m/-"},
		"none":                     {"{containers: [{name: app}]}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: *parsed[corev1.PodSpec](t, c.pod)}
			addPodResources(pod, sidecar)
			got := ""
			if pod.Spec.Resources != nil {
				got = texts(*pod.Spec.Resources)
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestQOSClass(t *testing.T) {
	for spec, want := range map[string]corev1.PodQOSClass{
		"{containers: [{name: a}]}": corev1.PodQOSBestEffort,
		"{containers: [{name: a, resources: {requests: {ephemeral-storage: 1Gi}}}]}":                                corev1.PodQOSBestEffort,
		"{containers: [{name: a, resources: {requests: {cpu: 1}}}]}":                                                corev1.PodQOSBurstable,
		"{containers: [{name: a, resources: {limits: {cpu: 1}}}]}":                                                  corev1.PodQOSBurstable,
		"{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]}":                                     corev1.PodQOSGuaranteed,
		"{containers: [{name: a, resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}}]}": corev1.PodQOSBurstable,
		"{containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: b}]}":                          corev1.PodQOSBurstable,
		"{resources: {limits: {cpu: 1, memory: 1Gi}}, containers: [{name: a}]}":                                     corev1.PodQOSGuaranteed,
		"{resources: {requests: {cpu: 1}}, containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]}":    corev1.PodQOSBurstable,
	} {
		if got := qosClass(&corev1.Pod{Spec: *parsed[corev1.PodSpec](t, spec)}); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}
