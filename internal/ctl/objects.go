package ctl

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// fileObject is an object of a file with its position.
type fileObject struct {
	client.Object
	kind string
	// file is the name as given by the user, and node the object's YAML.
	file string
	node *yamlv3.Node
}

// String is "Kind namespace/name".
func (o *fileObject) String() string { return objectName(o.kind, o.Object) }

func objectName(kind string, o client.Object) string {
	return fmt.Sprintf("%s %s", kind, strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
}

// kinds of users' objects that Mizzen reads, by apiVersion.
var kinds = map[schema.GroupVersionKind]func() client.Object{
	corev1.SchemeGroupVersion.WithKind("Service"):                            func() client.Object { return &corev1.Service{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("HTTPRoute"):        func() client.Object { return &gatewayv1.HTTPRoute{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("GRPCRoute"):        func() client.Object { return &gatewayv1.GRPCRoute{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("TLSRoute"):         func() client.Object { return &gatewayv1.TLSRoute{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("TCPRoute"):         func() client.Object { return &gatewayv1.TCPRoute{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("UDPRoute"):         func() client.Object { return &gatewayv1.UDPRoute{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("ReferenceGrant"):   func() client.Object { return &gatewayv1.ReferenceGrant{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind(classKind):          func() client.Object { return &gatewayv1.GatewayClass{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("Gateway"):          func() client.Object { return &gatewayv1.Gateway{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("ListenerSet"):      func() client.Object { return &gatewayv1.ListenerSet{} },
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("BackendTLSPolicy"): func() client.Object { return &gatewayv1.BackendTLSPolicy{} },
	v1alpha1.GroupVersion.WithKind("AuthorizationPolicy"):                    func() client.Object { return &v1alpha1.AuthorizationPolicy{} },
	schema.GroupVersion(gatewayxv1alpha1.GroupVersion).WithKind(policyKind):  func() client.Object { return &gatewayxv1alpha1.XBackendTrafficPolicy{} },
}

// classKind is the one of the kinds whose objects are in no namespace.
const classKind = "GatewayClass"

// policyKind is the kind of the Gateway API's policy for Services.
const policyKind = "XBackendTrafficPolicy"

// alike are older versions with the same fields, which the CRDs still serve.
// https://gateway-api.sigs.k8s.io/concepts/versioning/
var alike = map[schema.GroupVersionKind]bool{
	{Group: gatewayv1.GroupName, Version: "v1beta1", Kind: "HTTPRoute"}:         true,
	{Group: gatewayv1.GroupName, Version: "v1beta1", Kind: "ReferenceGrant"}:    true,
	{Group: gatewayv1.GroupName, Version: "v1alpha2", Kind: "TCPRoute"}:         true,
	{Group: gatewayv1.GroupName, Version: "v1alpha2", Kind: "TLSRoute"}:         true,
	{Group: gatewayv1.GroupName, Version: "v1alpha3", Kind: "TLSRoute"}:         true,
	{Group: gatewayv1.GroupName, Version: "v1alpha2", Kind: "UDPRoute"}:         true,
	{Group: gatewayv1.GroupName, Version: "v1alpha3", Kind: "BackendTLSPolicy"}: true,
	{Group: gatewayv1.GroupName, Version: "v1beta1", Kind: "Gateway"}:           true,
	{Group: gatewayv1.GroupName, Version: "v1beta1", Kind: classKind}:           true,
}

// reading is the content of the files.
type reading struct {
	objects  []*fileObject
	findings []finding
	// referred are Secrets and ConfigMaps, which are looked at where a Gateway names them.
	referred []*fileObject
	// templates are the pod templates of workloads.
	templates []template
	// accounts are the names of ServiceAccounts.
	accounts []mesh.Key
	// files and others count what was read; others are objects of kinds that are not checked.
	files, others int
}

// readObjects reads the objects of kinds in all sources. An unreadable object is a finding, not an error, so that all
// of them are reported at once.
func readObjects(sources []source, defaultNamespace string) reading {
	r := reading{files: len(sources)}
	for _, src := range sources {
		line := 0
		for _, doc := range splitDocuments(src.content) {
			r.document(src.name, doc, line, defaultNamespace)
			line += strings.Count(string(doc), "\n")
		}
	}
	r.findDoubles()
	return r
}

func (r *reading) fail(file string, line int, object, problem string) {
	r.findings = append(r.findings, finding{File: file, Line: line, Severity: severityError, Object: object, Problem: problem})
}

func (r *reading) document(file string, doc []byte, above int, namespace string) {
	if isBlank(doc) {
		return
	}
	first := above + strings.Count(string(head(doc)), "\n") + 1
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(doc, &root); err != nil {
		r.fail(file, first, "", yamlProblem(err, above))
		return
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yamlv3.MappingNode {
		return // no object: kubectl says so itself
	}
	shift(&root, above)
	// Parses YAML like the API server: "yes" is true, and duplicate keys are refused.
	asJSON, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		r.fail(file, first, "", yamlProblem(err, above))
		return
	}
	r.object(file, root.Content[0], asJSON, namespace)
}

var yamlLine = regexp.MustCompile(`\bline (\d+)`)

// yamlProblem returns the parser's message with lines of the file in place of lines of the document.
func yamlProblem(err error, above int) string {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	text = strings.Join(strings.Fields(strings.TrimPrefix(text, "yaml: ")), " ")
	return "not YAML: " + yamlLine.ReplaceAllStringFunc(text, func(line string) string {
		n, _ := strconv.Atoi(line[len("line "):])
		return fmt.Sprintf("line %d", n+above)
	})
}

// shift converts lines of the document to lines of the file.
func shift(n *yamlv3.Node, by int) {
	n.Line += by
	for _, child := range n.Content {
		shift(child, by)
	}
}

func (r *reading) object(file string, node *yamlv3.Node, asJSON []byte, namespace string) {
	kind, apiVersion := text(node, "kind"), text(node, "apiVersion")
	if kind == "List" {
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		items := lookup(node, "items")
		// Case-sensitive, like the API server: "Items" is another field.
		if err := sjson.UnmarshalCaseSensitivePreserveInts(asJSON, &list); err != nil || items == nil {
			return
		}
		for i, item := range list.Items {
			r.object(file, resolve(items.Content[i]), item, namespace)
		}
		return
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	gvk := gv.WithKind(kind)
	label := fmt.Sprintf("%s %s", kind, strings.TrimPrefix(text(node, "metadata", "namespace")+"/"+text(node, "metadata", "name"), "/"))
	if err != nil || !readable(gvk) {
		if want := wantVersion(gvk); want != "" {
			f := finding{
				File: file, Line: lineOf(node, "apiVersion"), Severity: severityError, Object: label,
				Field: "apiVersion", Value: apiVersion, Problem: "unknown version", Want: want,
			}
			if strings.HasPrefix(gvk.Group, "gateway.networking.") {
				f.Problem = "not served by the Gateway API"
			}
			r.findings = append(r.findings, f)
			return
		}
		if gvk == corev1.SchemeGroupVersion.WithKind("ServiceAccount") {
			r.accounts = append(r.accounts, mesh.Key{Namespace: cmp.Or(text(node, "metadata", "namespace"), namespace), Name: text(node, "metadata", "name")})
		}
		r.refer(file, node, gvk, asJSON, namespace)
		if err != nil || !r.keyed(file, node, gvk, asJSON, namespace) {
			r.others++
		}
		return
	}
	// The CRDs of the Gateway API still store ReferenceGrants as v1beta1.
	if want := wantVersion(gvk); want != apiVersion && kind != "ReferenceGrant" {
		r.findings = append(r.findings, finding{
			File: file, Line: lineOf(node, "apiVersion"), Severity: severityWarning, Object: label,
			Field: "apiVersion", Value: apiVersion, Problem: "an old version", Want: want,
		})
	}
	o := &fileObject{Object: newObject(kind), kind: kind, file: file, node: node}
	strict, err := sjson.UnmarshalStrict(asJSON, o.Object)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		r.findings = append(r.findings, finding{
			File: file, Line: lineOf(node, wrong.Field), Severity: severityError, Object: label,
			Field: wrong.Field, Problem: "a " + wrong.Value, Want: wrong.Type.String(),
		})
		return
	}
	if err != nil {
		r.fail(file, node.Line, label, strings.TrimPrefix(err.Error(), "json: "))
		return
	}
	if o.GetNamespace() == "" && kind != classKind {
		o.SetNamespace(namespace)
	}
	for _, e := range strict {
		path, ok := e.(interface{ FieldPath() string })
		if !ok {
			r.fail(file, node.Line, o.String(), e.Error())
			continue
		}
		r.findings = append(r.findings, o.finding(severityError, path.FieldPath(), "", "unknown field", ""))
	}
	switch {
	case o.GetName() == "" && o.GetGenerateName() != "":
		o.SetName(o.GetGenerateName() + "*")
	case o.GetName() == "":
		r.findings = append(r.findings, o.finding(severityError, "metadata.name", "", "missing", ""))
	}
	r.objects = append(r.objects, o)
}

func readable(gvk schema.GroupVersionKind) bool { return kinds[gvk] != nil || alike[gvk] }

func newObject(kind string) client.Object {
	for gvk, object := range kinds {
		if gvk.Kind == kind {
			return object()
		}
	}
	return nil
}

// wantVersion returns the apiVersion of a kind that is checked; empty for others, such as a Service of Knative.
func wantVersion(gvk schema.GroupVersionKind) string {
	for known := range kinds {
		if known.Kind == gvk.Kind && (known.Group == gvk.Group || gvk.Group == "") {
			return known.GroupVersion().String()
		}
	}
	return ""
}

// findDoubles reports objects with the same name, because kubectl applies both, one after the other.
func (r *reading) findDoubles() {
	first := map[string]*fileObject{}
	r.objects = slices.DeleteFunc(r.objects, func(o *fileObject) bool {
		if o.GetName() == "" {
			return false
		}
		other, double := first[o.String()]
		if double {
			r.findings = append(r.findings, o.finding(severityError, "metadata.name", o.GetName(),
				fmt.Sprintf("duplicate of the object at %s", place(other.file, other.node.Line)), ""))
			return true
		}
		first[o.String()] = o
		return false
	})
}
