package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// schemaOf checks objects as an API server with the CRD does.
type schemaOf struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	cel        *cel.Validator
}

func readCRD(t *testing.T, file string) schemaOf {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chartDir, "crds-generated", file))
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(b, &crd); err != nil {
		t.Fatal(err)
	}
	// As the API server takes it: the schema is structural, and its rules are not too costly.
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	var internal apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&crd, &internal, nil); err != nil {
		t.Fatal(err)
	}
	internal.Status.StoredVersions = []string{crd.Spec.Versions[0].Name}
	for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), &internal) {
		t.Errorf("the API server refuses the CRD: %v", err)
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	var s schemaOf
	if s.structural, err = structuralschema.NewStructural(&props); err != nil {
		t.Fatal(err)
	}
	if s.schema, _, err = validation.NewSchemaValidator(&props); err != nil {
		t.Fatal(err)
	}
	s.cel = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
	return s
}

// refusals are what a document is refused for.
func (s schemaOf) refusals(t *testing.T, doc string) string {
	t.Helper()
	var o map[string]any
	if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
		t.Fatal(err)
	}
	defaulting.Default(o, s.structural)
	var out []string
	for _, err := range validation.ValidateCustomResource(nil, o, s.schema) {
		out = append(out, err.Error())
	}
	if len(out) == 0 {
		errs, _ := s.cel.Validate(t.Context(), nil, s.structural, o, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range errs {
			out = append(out, err.Error())
		}
	}
	return strings.Join(out, "\n")
}

func TestAuthorizationPolicySchema(t *testing.T) {
	s := readCRD(t, "mizzen.dev_authorizationpolicies.yaml")
	for spec, want := range map[string]string{
		// Taken.
		`{}`:                             "",
		`{podSelector: {}, rules: [{}]}`: "",
		`{action: Deny, dryRun: true, rules: [{}]}`:                                                                                "",
		`{podSelector: {matchExpressions: [{key: app, operator: In, values: [a]}, {key: b, operator: Exists}]}}`:                   "",
		`{podSelector: {matchLabels: {app.kubernetes.io/part-of: Shop_1.2, empty: ""}}}`:                                           "",
		`{rules: [{from: [{serviceAccount: {name: a}}, {namespace: b}], ports: [80, 443]}]}`:                                       "",
		`{rules: [{ports: [80], http: [{methods: [GET, HEAD]}, {path: {value: "/v1/items:batch/@me"}}]}]}`:                         "",
		`{rules: [{ports: [80], http: [{path: {type: Exact, value: /}}, {path: {type: RegularExpression, value: "/a/[0-9]+"}}]}]}`: "",
		`{rules: [{ports: [80], grpc: [{service: shop.v1.Cart}, {service: Cart, method: Add}]}]}`:                                  "",

		// Refused.
		`{action: Log}`:               `"Allow", "Deny"`,
		`{action: Deny}`:              "a Deny needs at least one rule",
		`{action: Deny, rules: []}`:   "a Deny needs at least one rule",
		`{rules: [{from: []}]}`:       "spec.rules[0].from",
		`{rules: [{ports: []}]}`:      "spec.rules[0].ports",
		`{rules: [{ports: [0]}]}`:     "greater than or equal to 1",
		`{rules: [{ports: [65536]}]}`: "less than or equal to 65535",
		`{rules: [{from: [{}]}]}`:     "exactly one of serviceAccount and namespace",
		`{rules: [{from: [{namespace: a, serviceAccount: {name: b}}]}]}`:                    "exactly one of serviceAccount and namespace",
		`{rules: [{from: [{serviceAccount: {}}]}]}`:                                         "serviceAccount.name: Required",
		`{rules: [{from: [{namespace: "a/sa/b"}]}]}`:                                        "spec.rules[0].from[0].namespace",
		`{rules: [{from: [{serviceAccount: {name: "A"}}]}]}`:                                "serviceAccount.name",
		`{rules: [{http: [{methods: [GET]}]}]}`:                                             "want ports together with http or grpc",
		`{rules: [{grpc: [{service: a}]}]}`:                                                 "want ports together with http or grpc",
		`{rules: [{ports: [80], http: [{methods: [GET]}], grpc: [{service: a}]}]}`:          "want http or grpc, not both",
		`{rules: [{ports: [80], http: [{}]}]}`:                                              "want methods, path or both",
		`{rules: [{ports: [80], http: [{methods: [get]}]}]}`:                                "spec.rules[0].http[0].methods[0]",
		`{rules: [{ports: [80], http: [{path: {value: cart}}]}]}`:                           "begins with /",
		`{rules: [{ports: [80], http: [{path: {value: /a%2fb}}]}]}`:                         "begins with / and contains only",
		`{rules: [{ports: [80], http: [{path: {value: "/a;b"}}]}]}`:                         "begins with / and contains only",
		`{rules: [{ports: [80], http: [{path: {value: "/a?b"}}]}]}`:                         "begins with / and contains only",
		`{rules: [{ports: [80], http: [{path: {value: /a//b}}]}]}`:                          "without //, /./ and /../",
		`{rules: [{ports: [80], http: [{path: {value: /a/..}}]}]}`:                          "without //, /./ and /../",
		`{rules: [{ports: [80], http: [{path: {type: Prefix, value: /a}}]}]}`:               "PathPrefix",
		`{rules: [{ports: [80], http: [{path: {type: RegularExpression, value: "/a("}}]}]}`: "missing closing )",
		`{rules: [{ports: [80], grpc: [{method: Add}]}]}`:                                   "service: Required",
		`{rules: [{ports: [80], grpc: [{service: a/b}]}]}`:                                  "spec.rules[0].grpc[0].service",
		`{podSelector: {matchExpressions: [{key: app, operator: In}]}}`:                     "In and NotIn want values",
		`{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}}`:    "Exists and DoesNotExist want none",
		`{podSelector: {matchExpressions: [{key: app, operator: Is}]}}`:                     "operator",
		`{podSelector: {matchExpressions: [{key: a b, operator: Exists}]}}`:                 "matchExpressions[0].key",
		`{podSelector: {matchExpressions: [{key: app, operator: In, values: [a b]}]}}`:      "matchExpressions[0].values[0]",
		`{podSelector: {matchLabels: {app: front end}}}`:                                    "matchLabels.app",
		fmt.Sprintf("{rules: [%s{}]}", strings.Repeat("{}, ", 32)):                          "at most 32 items",
	} {
		got := s.refusals(t, "apiVersion: mizzen.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: "+spec)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s\nwant %q\ngot  %s", spec, want, got)
		}
	}
}
