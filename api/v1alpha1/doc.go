// Package v1alpha1 is the API group mizzen.dev: kinds for users that have no standard counterpart. It may
// import k8s.io/apimachinery only.
//
// +kubebuilder:object:generate=true
// +groupName=mizzen.dev
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 object crd paths=. output:crd:dir=../../charts/mizzen/crds-generated

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: "mizzen.dev", Version: "v1alpha1"}

var builder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &AuthorizationPolicy{}, &AuthorizationPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// Install adds the kinds to a scheme.
var Install = builder.AddToScheme
