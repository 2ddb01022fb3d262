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
			cel.Variable("request", cel.DynType), cel.Variable("variables", cel.DynType),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &admission{t, policies[i], set.NewExpressionsEnv()}
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
		"object": read(object), "oldObject": read(old), "variables": variables,
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
	namespaces, workloads := admissionOf(t, rendered, "keys.mizzen.dev"), admissionOf(t, rendered, "workloads.mizzen.dev")
	template := func(metadata string) string { return `{"template": {"metadata": ` + metadata + `, "spec": {}}}` }
	for name, c := range map[string]struct {
		policy            *admission
		kind, object, old string
		want              string // in part; empty for nothing
	}{
		"namespace without keys":    {namespaces, "Namespace", `{"metadata": {"name": "shop"}}`, "", ""},
		"namespace as it should be": {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"app": "x", "mizzen.dev/injection": "enabled"}, "annotations": {"mizzen.dev/mtls": "strict"}}}`, "", ""},
		"misspelt annotation":       {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/mtsl": "strict"}}}`, "", "annotation mizzen.dev/mtsl: no annotation of a namespace, want mizzen.dev/mtls"},
		"misspelt label":            {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/inject": "enabled"}}}`, "", "label mizzen.dev/inject: no label of a namespace, want mizzen.dev/injection"},
		"value of the label":        {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true"}}}`, "", `label mizzen.dev/injection: "true": want "enabled" or "disabled"`},
		"there already":             {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true", "x": "y"}, "annotations": {"mizzen.dev/mtsl": "strict"}}}`, `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true"}, "annotations": {"mizzen.dev/mtsl": "strict"}}}`, ""},
		"new on an update":          {namespaces, "Namespace", `{"metadata": {"name": "shop", "annotations": {"mizzen.dev/mtsl": "strict"}}}`, `{"metadata": {"name": "shop"}}`, "mizzen.dev/mtsl"},
		"value changed":             {namespaces, "Namespace", `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "on"}}}`, `{"metadata": {"name": "shop", "labels": {"mizzen.dev/injection": "true"}}}`, `"on"`},
		"workload as it should be":  {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/injection": "disabled"}, "annotations": {"mizzen.dev/mtls": "strict"}}`) + `}`, "", ""},
		"keys on the workload":      {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop", "annotations": {"mizzen.dev/mtls": "strict"}}, "spec": ` + template(`{}`) + `}`, "", "mizzen.dev/mtls: no effect on the Deployment itself"},
		"label on the workload":     {workloads, "StatefulSet", `{"metadata": {"name": "a", "namespace": "shop", "labels": {"mizzen.dev/injection": "enabled"}}, "spec": ` + template(`{}`) + `}`, "", "no effect on the StatefulSet itself"},
		"misspelt in the template":  {workloads, "Deployment", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/inject": "enabled"}, "annotations": {"mizzen.dev/mtsl": "strict"}}`) + `}`, "", "mizzen.dev/inject, mizzen.dev/mtsl, which nobody knows"},
		"value in the template":     {workloads, "DaemonSet", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": ` + template(`{"labels": {"mizzen.dev/injection": "true"}}`) + `}`, "", `mizzen.dev/injection: "true"`},
		"template of a CronJob":     {workloads, "CronJob", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"jobTemplate": {"spec": ` + template(`{"annotations": {"mizzen.dev/mtsl": "strict"}}`) + `}}}`, "", "mizzen.dev/mtsl"},
		"template without metadata": {workloads, "Job", `{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"template": {"spec": {}}}}`, "", ""},
		"made by a controller":      {workloads, "Job", `{"metadata": {"name": "a", "namespace": "shop", "ownerReferences": [{"name": "x"}], "annotations": {"mizzen.dev/mtls": "strict"}}, "spec": {"template": {"spec": {}}}}`, "", ""},
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
	} {
		want := "k in ['" + strings.Join(config.KeysOn(c.on, c.kind), "','") + "']"
		if !slices.ContainsFunc(c.policy.policy.Spec.Variables, func(v admissionregistrationv1.Variable) bool {
			return strings.Contains(strings.NewReplacer(", ", ",", "[ ", "[").Replace(v.Expression), want)
		}) {
			t.Errorf("%s does not know %s", c.policy.policy.Name, want)
		}
	}
}
