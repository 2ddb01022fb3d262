package chart

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// documents gives the objects of a kind.
func documents[T any](t *testing.T, rendered []byte, kind string) []T {
	t.Helper()
	var out []T
	for doc := range strings.SplitSeq(string(rendered), "\n---\n") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		var object T
		if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		out = append(out, object)
	}
	return out
}

// eachCase looks at all that the chart renders.
func eachCase(t *testing.T, check func(t *testing.T, rendered []byte)) {
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		c.Read(t, "values.yaml")
		check(t, c.Read(t, "out.yaml"))
	})
}

// cniName is that of all that the CNI plugin's DaemonSet has.
const cniName = "mizzen-cni"

// gatewayRights are added where the chart serves Gateways (gateway.enabled).
var gatewayRights = map[string]string{
	// xds/kube
	"cluster gateway.networking.k8s.io/gateways":           "list watch",
	"cluster gateway.networking.k8s.io/listenersets":       "list watch",
	"cluster gateway.networking.k8s.io/udproutes":          "list watch",
	"cluster gateway.networking.k8s.io/backendtlspolicies": "list watch",
	"cluster /secrets": "list watch", // certificates of listeners, in any namespace
	// xds/status and internal/gateway
	"cluster gateway.networking.k8s.io/gateways/status":           "update",
	"cluster gateway.networking.k8s.io/gatewayclasses/status":     "update",
	"cluster gateway.networking.k8s.io/listenersets/status":       "update",
	"cluster gateway.networking.k8s.io/udproutes/status":          "update",
	"cluster gateway.networking.k8s.io/backendtlspolicies/status": "update",
	// internal/gateway: what a Gateway consists of. get: where the cache holds only what is labelled.
	"cluster gateway.networking.k8s.io/gatewayclasses": "list watch create",
	"cluster /configmaps":                              "get list watch create patch delete",
	"cluster /serviceaccounts":                         "get list watch create patch delete",
	"cluster /services":                                "get list watch create patch delete",
	"cluster apps/deployments":                         "get list watch create patch delete",
	"cluster policy/poddisruptionbudgets":              "get list watch create patch delete",
	"cluster autoscaling/horizontalpodautoscalers":     "get list watch create patch delete",
}

// rights are all that the chart grants, "<where> <group>/<resource>[ <name>]: <verbs>", each with what needs it.
var rights = map[string]string{
	// xds/kube: what the mesh is made from, by informers.
	"cluster /services":                                           "list watch",
	"cluster /namespaces":                                         "get list watch", // get: cmd/mizzen-controller/namespaces.go, where the cache is behind
	"cluster /resourcequotas":                                     "list watch",     // cmd/mizzen-controller/namespaces.go: what injected pods have to keep to
	"cluster /limitranges":                                        "list watch",
	"cluster /nodes":                                              "list watch",
	"cluster /pods":                                               "get list watch", // get: internal/identity/kube, where the cache is behind
	"cluster discovery.k8s.io/endpointslices":                     "list watch",
	"cluster networking.k8s.io/servicecidrs":                      "list watch",
	"cluster apiextensions.k8s.io/customresourcedefinitions":      "list watch",
	"cluster gateway.networking.k8s.io/httproutes":                "list watch",
	"cluster gateway.networking.k8s.io/grpcroutes":                "list watch",
	"cluster gateway.networking.k8s.io/tlsroutes":                 "list watch",
	"cluster gateway.networking.k8s.io/tcproutes":                 "list watch",
	"cluster gateway.networking.k8s.io/referencegrants":           "list watch",
	"cluster gateway.networking.x-k8s.io/xbackendtrafficpolicies": "list watch",
	"cluster mizzen.dev/authorizationpolicies":                    "list watch",
	// xds/status
	"cluster gateway.networking.k8s.io/httproutes/status":                "update",
	"cluster gateway.networking.k8s.io/grpcroutes/status":                "update",
	"cluster gateway.networking.k8s.io/tlsroutes/status":                 "update",
	"cluster gateway.networking.k8s.io/tcproutes/status":                 "update",
	"cluster gateway.networking.x-k8s.io/xbackendtrafficpolicies/status": "update",
	"cluster mizzen.dev/authorizationpolicies/status":                    "update",
	// internal/identity/kube
	"cluster authentication.k8s.io/tokenreviews": "create",
	// internal/webhookcert
	"cluster admissionregistration.k8s.io/mutatingwebhookconfigurations mizzen": "get list watch patch",
	// the recorder of events
	"cluster events.k8s.io/events": "create patch",

	// internal/casecret, for internal/webhookcert and internal/identity/authority
	"mizzen-system /secrets":                   "create",
	"mizzen-system /secrets mizzen-webhook-ca": "get list watch update",
	"mizzen-system /secrets mizzen-ca":         "get list watch update",
	"mizzen-system /configmaps":                "create",
	"mizzen-system /configmaps mizzen-ca":      "get list watch update",
	// cmd/mizzen-controller: the owner of these
	"mizzen-system /services mizzen-controller": "get",
	// internal/leader
	"mizzen-system coordination.k8s.io/leases":                   "create",
	"mizzen-system coordination.k8s.io/leases mizzen-controller": "get update",
	// cmd/mizzen-cni-node, where the chart installs it: which pods have a sidecar, and events on those that were passed over.
	"nodes /pods":                "get list watch",
	"nodes events.k8s.io/events": "create patch",
	// helm test, in the namespace of its dry run
	"test /pods": "create",
}

func TestLeastPrivilege(t *testing.T) {
	eachCase(t, func(t *testing.T, rendered []byte) {
		got := map[string]string{}
		gateways := bytes.Contains(rendered, []byte("gatewayclasses"))
		revision := meshConfig(t, rendered).Revision
		grant := func(where string, rules []rbacv1.PolicyRule) {
			for _, rule := range rules {
				if len(rule.NonResourceURLs) > 0 {
					t.Errorf("%s: URLs %q", where, rule.NonResourceURLs)
				}
				for _, word := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.ResourceNames) {
					if strings.Contains(word, "*") {
						t.Errorf("%s: a wildcard in %+v", where, rule)
					}
				}
				names := rule.ResourceNames
				if len(names) == 0 {
					names = []string{""}
				}
				for _, group := range rule.APIGroups {
					for _, resource := range rule.Resources {
						for _, name := range names {
							key := strings.TrimSpace(fmt.Sprintf("%s %s/%s %s", where, group, resource, name))
							if got[key] != "" {
								t.Errorf("%s is granted twice", key)
							}
							got[key] = strings.Join(rule.Verbs, " ")
						}
					}
				}
			}
		}
		for _, role := range documents[rbacv1.ClusterRole](t, rendered, "ClusterRole") {
			if role.AggregationRule != nil {
				t.Errorf("%s takes what others grant", role.Name)
			}
			where := "cluster"
			if role.Name == cniName {
				where = "nodes"
			}
			grant(where, role.Rules)
			for _, rule := range role.Rules {
				if !gateways && (slices.Contains(rule.Resources, "secrets") || slices.Contains(rule.Resources, "configmaps")) {
					t.Errorf("%s: %q of the whole cluster", role.Name, rule.Resources)
				}
			}
		}
		for _, role := range documents[rbacv1.Role](t, rendered, "Role") {
			where := role.Namespace
			if role.Name == config.OfRevision("mizzen-check", revision) {
				where = "test"
			}
			grant(where, role.Rules)
		}
		needed := maps.Clone(rights)
		if gateways {
			maps.Copy(needed, gatewayRights)
		}
		if revision != "" {
			needed = ofRevision(needed, revision)
		}
		if len(documents[appsv1.DaemonSet](t, rendered, "DaemonSet")) == 0 {
			maps.DeleteFunc(needed, func(right, _ string) bool { return strings.HasPrefix(right, "nodes ") })
		}
		if diff := cmp.Diff(needed, got); diff != "" {
			t.Errorf("rights (-needed +granted):\n%s", diff)
		}
		for _, b := range documents[rbacv1.ClusterRoleBinding](t, rendered, "ClusterRoleBinding") {
			if len(b.Subjects) != 1 || b.Subjects[0].Kind != "ServiceAccount" || b.Subjects[0].Name != b.Name {
				t.Errorf("%s is for %+v", b.Name, b.Subjects)
			}
		}
		for _, a := range documents[corev1.ServiceAccount](t, rendered, "ServiceAccount") {
			if a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken {
				t.Errorf("%s: pods that do not ask get its token", a.Name)
			}
		}
	})
}

// ofRevision returns the rights of a revision: it writes no status, does not write the mesh's CA, and has objects of its own names.
func ofRevision(rights map[string]string, revision string) map[string]string {
	out := map[string]string{}
	for right, verbs := range rights {
		where, name, _ := strings.Cut(right, "/")
		switch resource, of, named := strings.Cut(name, " "); {
		case strings.HasSuffix(resource, "/status"), right == "mizzen-system /configmaps":
			continue
		case of == "mizzen-ca":
			verbs = "get list watch"
		case named:
			right = where + "/" + resource + " " + config.OfRevision(of, revision)
		}
		out[right] = verbs
	}
	out["mizzen-system /configmaps mizzen-mesh"] = "get" // cmd/mizzen-controller: what it has to have in common with the main one
	return out
}

// All pods of the chart keep to the Pod Security Standard "restricted", and write nowhere.
// https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
func TestPodSecurity(t *testing.T) {
	eachCase(t, func(t *testing.T, rendered []byte) {
		specs := map[string]corev1.PodSpec{}
		for _, d := range documents[appsv1.Deployment](t, rendered, "Deployment") {
			specs["Deployment "+d.Name] = d.Spec.Template.Spec
		}
		for _, p := range documents[corev1.Pod](t, rendered, "Pod") {
			specs["Pod "+p.Name] = p.Spec
		}
		if len(specs) != 2 {
			t.Fatalf("%d pods, want those of the control plane and of helm test", len(specs))
		}
		for name, spec := range specs {
			if spec.HostNetwork || spec.HostPID || spec.HostIPC {
				t.Errorf("%s uses the host's namespaces", name)
			}
			for _, v := range spec.Volumes {
				if v.ConfigMap == nil {
					t.Errorf("%s: volume %s is no ConfigMap", name, v.Name)
				}
			}
			pod := spec.SecurityContext
			if pod == nil || pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot || pod.RunAsUser == nil || *pod.RunAsUser == 0 ||
				pod.SeccompProfile == nil || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: %+v", name, pod)
			}
			for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
				s := c.SecurityContext
				if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil ||
					!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 || s.Privileged != nil ||
					s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.RunAsUser != nil || s.RunAsNonRoot != nil || s.SeccompProfile != nil {
					t.Errorf("%s, container %s: %+v", name, c.Name, s)
				}
			}
		}
	})
}

// The DaemonSet is root on its nodes: it writes into their directories and enters the network namespaces of pods. Everything
// beyond that it goes without.
func TestCNISecurity(t *testing.T) {
	if n := len(documents[appsv1.DaemonSet](t, render(t), "DaemonSet")); n > 0 {
		t.Errorf("%d DaemonSets by default, want none", n)
	}
	sets := documents[appsv1.DaemonSet](t, render(t, "--set", "cni.enabled=true"), "DaemonSet")
	if len(sets) != 1 || sets[0].Name != cniName {
		t.Fatalf("%d DaemonSets", len(sets))
	}
	spec := sets[0].Spec.Template.Spec
	if spec.HostNetwork || spec.HostIPC || !spec.HostPID || len(spec.Containers) != 1 || len(spec.InitContainers) > 0 {
		t.Errorf("%+v", spec)
	}
	if !slices.Contains(spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists}) || spec.PriorityClassName != "system-node-critical" {
		t.Errorf("it is not on every node: %v, %s", spec.Tolerations, spec.PriorityClassName)
	}
	var paths []string
	for _, v := range spec.Volumes {
		if v.HostPath == nil {
			t.Errorf("volume %s is none of the node", v.Name)
			continue
		}
		paths = append(paths, v.HostPath.Path)
	}
	if diff := cmp.Diff([]string{"/opt/cni/bin", "/etc/cni/net.d", "/run/mizzen-cni"}, paths); diff != "" {
		t.Errorf("paths of the node (-want +got):\n%s", diff)
	}
	s := spec.Containers[0].SecurityContext
	if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem ||
		!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
		!slices.Equal(s.Capabilities.Add, []corev1.Capability{"NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"}) {
		t.Errorf("%+v", s)
	}
}

// The policy lets in what the Service serves, and egress alone.
func TestNetworkPolicy(t *testing.T) {
	rendered := render(t, "--set-json", `networkPolicy.statusFrom=[{"namespaceSelector":{"matchLabels":{"a":"b"}}}]`)
	policies := documents[networkingv1.NetworkPolicy](t, rendered, "NetworkPolicy")
	deployment := documents[appsv1.Deployment](t, rendered, "Deployment")[0]
	if len(policies) != 1 {
		t.Fatalf("%d policies", len(policies))
	}
	p := policies[0]
	if diff := cmp.Diff(deployment.Spec.Selector, &p.Spec.PodSelector); diff != "" {
		t.Errorf("it is for other pods:\n%s", diff)
	}
	if !slices.Equal(p.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
		t.Errorf("types %v", p.Spec.PolicyTypes)
	}
	var served, allowed []string
	for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
		served = append(served, port.Name)
	}
	for _, rule := range p.Spec.Ingress {
		for _, port := range rule.Ports {
			allowed = append(allowed, port.Port.String())
			if port.Port.String() == "http-status" && len(rule.From) != 3 {
				t.Errorf("status from %+v, want the value, the replicas and helm test", rule.From)
			}
		}
	}
	if !slices.Equal(served, allowed) {
		t.Errorf("ports %q, want %q", allowed, served)
	}
	off := render(t, "--set", "networkPolicy.enabled=false")
	if n := len(documents[networkingv1.NetworkPolicy](t, off, "NetworkPolicy")); n > 0 {
		t.Errorf("%d policies although there shall be none", n)
	}
}

// The modes of namespaces and of pods that run are checked as package config has them, and nothing of the cluster waits
// for that. What the expressions say is seen on a cluster: e2e.TestBadMode.
func TestModesPolicy(t *testing.T) {
	eachCase(t, func(t *testing.T, rendered []byte) {
		policies := documents[admissionregistrationv1.ValidatingAdmissionPolicy](t, rendered, "ValidatingAdmissionPolicy")
		bindings := documents[admissionregistrationv1.ValidatingAdmissionPolicyBinding](t, rendered, "ValidatingAdmissionPolicyBinding")
		policies = slices.DeleteFunc(policies, func(p admissionregistrationv1.ValidatingAdmissionPolicy) bool { return p.Name != "modes.mizzen.dev" })
		bindings = slices.DeleteFunc(bindings, func(b admissionregistrationv1.ValidatingAdmissionPolicyBinding) bool {
			return b.Name != "modes.mizzen.dev"
		})
		if meshConfig(t, rendered).Revision != "" {
			return // the main control plane's
		}
		if len(policies) != 1 || len(bindings) != 1 || bindings[0].Spec.PolicyName != policies[0].Name ||
			!slices.Equal(bindings[0].Spec.ValidationActions, []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}) {
			t.Fatalf("%+v %+v", policies, bindings)
		}
		spec := policies[0].Spec
		if *spec.FailurePolicy != admissionregistrationv1.Ignore {
			t.Error("the cluster depends on it")
		}
		var looksAt []string
		for _, r := range spec.MatchConstraints.ResourceRules {
			looksAt = append(looksAt, fmt.Sprint(r.Resources, r.Operations))
		}
		if diff := cmp.Diff([]string{"[namespaces] [CREATE UPDATE]", "[pods] [UPDATE]"}, looksAt); diff != "" {
			t.Errorf("it looks at (-want +got):\n%s", diff)
		}
		var modes []string
		for _, m := range config.MTLSModes {
			modes = append(modes, string(m))
		}
		if len(spec.Validations) != 2 {
			t.Fatalf("%d validations", len(spec.Validations))
		}
		for i, want := range []struct{ key, modes string }{
			{config.AnnotationMTLS, "['" + strings.Join(modes, "', '") + "']"}, {config.AnnotationMTLSPorts, "=(" + strings.Join(modes, "|") + ")$"},
		} {
			v := spec.Validations[i]
			if !strings.Contains(v.Expression, want.modes) {
				t.Errorf("%s, want %s", v.Expression, want.modes)
			}
			key := slices.IndexFunc(config.Keys, func(k config.Key) bool { return k.Name == want.key })
			if text := ": annotation " + want.key + `: "'`; !strings.Contains(v.MessageExpression, text) || !strings.Contains(v.MessageExpression, "want "+config.Keys[key].Values) {
				t.Errorf("%s, want %s and %q", v.MessageExpression, text, config.Keys[key].Values)
			}
			if !strings.Contains(spec.MatchConditions[0].Expression, "'"+want.key+"'") {
				t.Errorf("%s: not %s", spec.MatchConditions[0].Expression, want.key)
			}
		}
	})
}
