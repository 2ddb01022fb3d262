package chart

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/mizzen-mesh/mizzen/config"
)

// admission evaluates the expressions of a policy as the API server does.
type admission struct {
	*testing.T
	policy admissionregistrationv1.ValidatingAdmissionPolicy
	env    *cel.Env
	// namespace is that of the object, in JSON.
	namespace string
}

func admissionOf(t *testing.T, rendered []byte, name string) *admission {
	t.Helper()
	policies := documents[admissionregistrationv1.ValidatingAdmissionPolicy](t, rendered, "ValidatingAdmissionPolicy")
	i := slices.IndexFunc(policies, func(p admissionregistrationv1.ValidatingAdmissionPolicy) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no policy %s", name)
	}
	if *policies[i].Spec.FailurePolicy != admissionregistrationv1.Ignore {
		t.Error("the cluster depends on it")
	}
	oldest := version.MajorMinor(1, 30)
	set, err := environment.MustBaseEnvSet(oldest).Extend(environment.VersionedOptions{
		IntroducedVersion: oldest,
		EnvOptions: []cel.EnvOption{
			cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType),
			cel.Variable("request", cel.DynType), cel.Variable("variables", cel.DynType), cel.Variable("namespaceObject", cel.DynType),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &admission{T: t, policy: policies[i], env: set.NewExpressionsEnv()}
}

func (a *admission) eval(expression string, vars map[string]any) any {
	a.Helper()
	ast, issues := a.env.Compile(expression)
	if issues.Err() != nil {
		a.Fatalf("%s: %v", expression, issues.Err())
	}
	program, err := a.env.Program(ast)
	if err != nil {
		a.Fatal(err)
	}
	out, _, err := program.Eval(vars)
	if err != nil {
		a.Fatalf("%s: %v", expression, err)
	}
	return out.Value()
}

// says is what the policy says to a change, empty for nothing.
func (a *admission) says(kind, object, old string) string {
	a.Helper()
	read := func(text string) any {
		if text == "" {
			return nil
		}
		var out map[string]any
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			a.Fatal(err)
		}
		return out
	}
	variables := map[string]any{}
	vars := map[string]any{
		"object": read(object), "oldObject": read(old), "variables": variables, "namespaceObject": read(a.namespace),
		"request": map[string]any{"kind": map[string]any{"kind": kind}},
	}
	for _, c := range a.policy.Spec.MatchConditions {
		if a.eval(c.Expression, vars) != true {
			return ""
		}
	}
	for _, v := range a.policy.Spec.Variables {
		ast, issues := a.env.Compile(v.Expression)
		if issues.Err() != nil {
			a.Fatalf("%s: %v", v.Expression, issues.Err())
		}
		program, err := a.env.Program(ast)
		if err != nil {
			a.Fatal(err)
		}
		if variables[v.Name], _, err = program.Eval(vars); err != nil {
			a.Fatalf("%s: %v", v.Name, err)
		}
	}
	var out []string
	for _, v := range a.policy.Spec.Validations {
		if a.eval(v.Expression, vars) != true {
			out = append(out, a.eval(v.MessageExpression, vars).(string))
		}
	}
	return strings.Join(out, "; ")
}

// Keys of namespaces are refused, and those of workloads warned about, where nobody knows them.
func TestKeysPolicies(t *testing.T) {
	rendered := render(t)
	namespaces, workloads, calls := admissionOf(t, rendered, "keys.mizzen.dev"), admissionOf(t, rendered, "workloads.mizzen.dev"), admissionOf(t, rendered, "calls.mizzen.dev")
	template := func(metadata string) string { return `{"template": {"metadata": ` + metadata + `, "spec": {}}}` }
	for name, c := range map[string]struct {
		policy            *admission
		kind, object, old string
		want              string // in part; empty for nothing
	}{
		"namespace without keys":    {namespaces, "Namespace", `{"metadata": {"name": "shop"}}`, "", ""},
		"namespace as it should be": {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"app": "x", "mizzen.dev/injection": "enabled"}, "annotations": {"mizzen.dev/mtls": "strict"}}}`, "", ""},
		"misspelt annotation":       {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/mtsl": "strict"}}}`, "", "annotation mizzen.dev/mtsl: not an annotation for namespaces; want mizzen.dev/config-scope, drain-delay, "},
		"misspelt label":            {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/inject": "enabled"}}}`, "", "label mizzen.dev/inject: not a label for namespaces; want mizzen.dev/injection"},
		"revision":                  {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "enabled", "mizzen.dev/revision": "v0-2"}}}`, "", ""},
		"bad revision":              {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/revision": "V0.2"}}}`, "", `label mizzen.dev/revision: "V0.2": want a DNS label of at most 32 characters`},
		"bad revision already":      {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/revision": "V0.2", "x": "y"}}}`, `{"metadata": {"name": "shop", "labels": {"mizzen.dev/revision": "V0.2"}}}`, ""},
		"a workload's revision":     {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/revision": "canary"}}`) + `}`, "", "mizzen.dev/revision, which Mizzen does not know"},
		"value of the label":        {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true"}}}`, "", `label mizzen.dev/injection: "true": want "enabled" or "disabled"`},
		"there already":             {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true", "x": "y"}, "annotations": {"mizzen.dev/mtsl": "strict"}}}`, `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true"}, "annotations": {"mizzen.dev/mtsl": "strict"}}}`, ""},
		"new on an update":          {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/mtsl": "strict"}}}`, `{"metadata": {"name": "shop"}}`, "mizzen.dev/mtsl"},
		"value changed":             {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "on"}}}`, `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true"}}}`, `"on"`},
		"workload as it should be":  {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/injection": "disabled"}, "annotations": {"mizzen.dev/mtls": "strict"}}`) + `}`, "", ""},
		"keys on the workload":      {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop", "annotations": {"mizzen.dev/mtls": "strict"}}, "spec": ` + template(`{}`) + `}`, "", "mizzen.dev/mtls: no effect on the Deployment itself"},
		"label on the workload":     {workloads, "StatefulSet", `{"metadata": {"name": "a", "namespace": "shop", "labels": {"mizzen.dev/injection": "enabled"}}, "spec": ` + template(`{}`) + `}`, "", "no effect on the StatefulSet itself"},
		"misspelt in the template":  {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/inject": "enabled"}, "annotations": {"mizzen.dev/mtsl": "strict"}}`) + `}`, "", "mizzen.dev/inject, mizzen.dev/mtsl, which Mizzen does not know"},
		"value in the template":     {workloads, "DaemonSet", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/injection": "true"}}`) + `}`, "", `mizzen.dev/injection: "true"`},
		"template of a CronJob":     {workloads, "CronJob", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"jobTemplate": {"spec": ` + template(`{"annotations": {"mizzen.dev/mtsl": "strict"}}`) + `}}}`, "", "mizzen.dev/mtsl"},
		"template without metadata": {workloads, "Job", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"template": {"spec": {}}}}`, "", ""},
		"made by a controller":      {workloads, "Job", `{"metadata": {"name": "a", "namespace": "shop", "ownerReferences": [{"name": "x"}], "annotations": {"mizzen.dev/mtls": "strict"}}, "spec": {"template": {"spec": {}}}}`, "", ""},
		"settings of the namespace": {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/proxy-cpu-limit": "1", "mizzen.dev/drain-delay": "5s"}}}`, "", ""},
		"value of a setting":        {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/proxy-cpu-limit": "alot"}}}`, "", `namespace shop: annotation mizzen.dev/proxy-cpu-limit: "alot": want a CPU quantity above 0, such as 100m or 2, or "0" for no limit`},
		"value that was there":      {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/proxy-cpu-limit": "alot", "mizzen.dev/mtls": "strict"}}}`, `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/proxy-cpu-limit": "alot"}}}`, ""},
		"value made worse":          {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/proxy-cpu-limit": "more"}}}`, `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/proxy-cpu-limit": "alot"}}}`, `"more"`},
		"value of a template":       {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"annotations": {"mizzen.dev/drain-delay": "soon"}}`) + `}`, "", `the pod template has the annotation mizzen.dev/drain-delay: "soon": want whole seconds from 0s to 1h, such as 5s: the API server will refuse its pods`},
		"mode of a template":        {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"annotations": {"mizzen.dev/mtls": "on"}}`) + `}`, "", `mizzen.dev/mtls: "on": want permissive or strict`},
		"on a CronJob's Jobs":       {workloads, "CronJob", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"jobTemplate": {"metadata": {"annotations": {"mizzen.dev/mtls": "strict"}}, "spec": ` + template(`{}`) + `}}}`, "", "mizzen.dev/mtls: no effect on the CronJob itself"},
		"pod":                       {workloads, "Pod", `{"metadata": {"name": "a", "namespace": "shop", "labels": {"mizzen.dev/injection": "enabled"}, "annotations": {"mizzen.dev/mtls": "strict"}}, "spec": {}}`, "", ""},
		"label key of a pod":        {workloads, "Pod", `{"metadata": {"name": "a", "namespace": "shop", "labels": {"mizzen.dev/inject": "enabled"}}, "spec": {}}`, "", "the pod has mizzen.dev/inject, which Mizzen does not know: the webhook would refuse it with a sidecar"},
		"label value of a pod":      {workloads, "Pod", `{"metadata": {"name": "a", "namespace": "shop", "labels": {"mizzen.dev/injection": "true"}}, "spec": {}}`, "", `mizzen.dev/injection: "true"`},
		"pod of an owner":           {workloads, "Pod", `{"metadata": {"name": "a", "namespace": "shop", "ownerReferences": [{"name": "x"}], "annotations": {"mizzen.dev/mtsl": "strict"}}, "spec": {}}`, "", ""},
		"pod of an owner, written":  {workloads, "Pod", `{"metadata": {"name": "a", "namespace": "shop", "ownerReferences": [{"name": "x"}], "annotations": {"mizzen.dev/mtsl": "strict"}}, "spec": {}}`, `{"metadata": {"name": "a", "namespace": "shop", "ownerReferences": [{"name": "x"}]}, "spec": {}}`, "mizzen.dev/mtsl"},
		"ReplicationController":     {workloads, "ReplicationController", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/inject": "enabled"}}`) + `}`, "", "mizzen.dev/inject"},
		"PodTemplate":               {workloads, "PodTemplate", `{"metadata": {"name": "a", "namespace": "shop"}, ` + template(`{"labels": {"mizzen.dev/inject": "enabled"}}`)[1:], "", "mizzen.dev/inject"},
		"Service":                   {calls, "Service", `{"metadata": {"name": "a", "annotations": {"mizzen.dev/timeout": "5s", "mizzen.dev/max-requests": "5"}}}`, "", ""},
		"Service, misspelt":         {calls, "Service", `{"metadata": {"name": "a", "annotations": {"mizzen.dev/time-out": "5s"}}}`, "", "annotation mizzen.dev/time-out: not an annotation for a Service; want mizzen.dev/backend-timeout"},
		"Service with a label":      {calls, "Service", `{"metadata": {"name": "a", "labels": {"mizzen.dev/injection": "enabled"}}}`, "", "label mizzen.dev/injection: not a label for a Service"},
		"route":                     {calls, "HTTPRoute", `{"metadata": {"name": "a", "annotations": {"mizzen.dev/timeout": "5s", "mizzen.dev/retry-on.my.rule": "503"}}}`, "", ""},
		"route, misspelt":           {calls, "GRPCRoute", `{"metadata": {"name": "a", "annotations": {"mizzen.dev/max-requests": "5"}}}`, "", "annotation mizzen.dev/max-requests: not an annotation for a GRPCRoute"},
		"the control plane's own":   {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "mizzen-system"}, "spec": ` + template(`{"annotations": {"mizzen.dev/mesh-config": "x"}}`) + `}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.policy.T = t
			got := c.policy.says(c.kind, c.object, c.old)
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("said %q, want %q", got, c.want)
			}
		})
	}
	for _, c := range []struct {
		policy *admission
		on     config.Object
		kind   config.KeyKind
	}{
		{namespaces, config.OnNamespace, config.Label}, {namespaces, config.OnNamespace, config.Annotation},
		{workloads, config.OnPod, config.Label}, {workloads, config.OnPod, config.Annotation},
		{calls, config.OnService, config.Annotation}, {calls, config.OnRoute, config.Annotation},
	} {
		want := " in ['" + strings.Join(config.KeysOn(c.on, c.kind), "','") + "']"
		if !slices.ContainsFunc(c.policy.policy.Spec.Variables, func(v admissionregistrationv1.Variable) bool {
			return strings.Contains(strings.NewReplacer(", ", ",", "[ ", "[").Replace(v.Expression), want)
		}) {
			t.Errorf("%s does not know %s", c.policy.policy.Name, want)
		}
	}
}

// What the policy says of values is what injection does.
func TestValuesInPolicies(t *testing.T) {
	policy := admissionOf(t, render(t), "keys.mizzen.dev")
	modes := []string{config.AnnotationMTLS, config.AnnotationMTLSPorts} // of modes.mizzen.dev
	values := []string{
		"", " ", "0", "1", "-1", "64", "65", "100m", "0.5", "64Mi", "128", "1e3", "alot", "true", "false", "True", "info", "loud", "80", "80,443", "80, 443",
		"80,,81", "0,80", "65535", "65536", "10.0.0.0/8", "10.0.0.0/8, fd00::/8", "10.0.0.0", "5s", "1500ms", "2000ms", "1h", "61m", "1m30s", "5", "soon",
		"99999h", "all", "namespace", "demand", "none", "regcred", "regcred,other.one", "Reg", "reg_cred", "-x",
	}
	for _, name := range config.KeysOn(config.OnNamespace, config.Annotation) {
		if slices.Contains(modes, name) {
			continue
		}
		allowed := 0
		for _, value := range values {
			annotations := map[string]string{name: value}
			object, err := json.Marshal(map[string]any{"metadata": map[string]any{"name": "shop", "annotations": annotations}})
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if found := config.KeyMistakes(config.OnNamespace, nil, annotations); len(found) > 0 {
				want = "namespace shop: annotation " + name + ": \"" + value + "\": want " + found[0].Want
			} else {
				allowed++
			}
			if got := policy.says("Namespace", string(object), ""); got != want {
				t.Errorf("%s: %q: said %q, want %q", name, value, got, want)
			}
		}
		if allowed == 0 || allowed == len(values) {
			t.Errorf("%s: %d of the values are allowed: they show nothing", name, allowed)
		}
	}
}

// Who writes a namespace or a workload hears that its pods will be refused.
func TestPodSecurityPolicy(t *testing.T) {
	policy := admissionOf(t, render(t), "podsecurity.mizzen.dev")
	namespace := func(injection, enforce string) string {
		return `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "` + injection + `", "pod-security.kubernetes.io/enforce": "` + enforce + `"}}}`
	}
	deployment := func(labels, spec string) string {
		return `{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"template": {"metadata": {"labels": ` + labels + `}, "spec": ` + spec + `}}}`
	}
	for name, c := range map[string]struct {
		kind, object, namespace string
		want                    bool
	}{
		"restricted":                       {"Namespace", namespace("enabled", "restricted"), "", true},
		"baseline":                         {"Namespace", namespace("enabled", "baseline"), "", true},
		"privileged":                       {"Namespace", namespace("enabled", "privileged"), "", false},
		"not injected":                     {"Namespace", namespace("disabled", "restricted"), "", false},
		"no labels":                        {"Namespace", `{"metadata": {"name": "shop"}}`, "", false},
		"workload":                         {"Deployment", deployment(`{}`, `{}`), namespace("enabled", "restricted"), true},
		"workload without labels":          {"Deployment", `{"metadata": {"name": "a"}, "spec": {"template": {"spec": {}}}}`, namespace("enabled", "restricted"), true},
		"workload with its own label":      {"Deployment", deployment(`{"mizzen.dev/injection": "enabled"}`, `{}`), namespace("disabled", "restricted"), true},
		"workload that is left out":        {"Deployment", deployment(`{"mizzen.dev/injection": "disabled"}`, `{}`), namespace("enabled", "restricted"), false},
		"workload on the node's addresses": {"DaemonSet", deployment(`{}`, `{"hostNetwork": true}`), namespace("enabled", "restricted"), false},
		"CronJob":                          {"CronJob", `{"metadata": {"name": "a"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": {}}}}}}`, namespace("enabled", "baseline"), true},
		"workload where all may":           {"Deployment", deployment(`{}`, `{}`), namespace("enabled", "privileged"), false},
	} {
		t.Run(name, func(t *testing.T) {
			policy.T, policy.namespace = t, c.namespace
			got := policy.says(c.kind, c.object, "")
			if (got != "") != c.want || c.want && !strings.Contains(got, "pod-security.kubernetes.io/enforce=privileged") {
				t.Errorf("said %q, want something: %t", got, c.want)
			}
		})
	}
}
