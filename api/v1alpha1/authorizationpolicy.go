package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AuthorizationPolicy says who may call pods of its namespace. The sidecars of these pods enforce it.
//
// If a Deny that selects the pod matches a call, the call is refused. If at least one Allow selects the pod, the call must
// match a rule of one of them. Otherwise the call is allowed.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=mizzen
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name="Dry-Run",type=boolean,JSONPath=`.spec.dryRun`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Effective",type=string,JSONPath=`.status.conditions[?(@.type=="Effective")].reason`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AuthorizationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AuthorizationPolicySpec `json:"spec"`
	// +optional
	Status AuthorizationPolicyStatus `json:"status,omitempty"`
}

// AuthorizationPolicyList is a list of policies.
//
// +kubebuilder:object:root=true
type AuthorizationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuthorizationPolicy `json:"items"`
}

// Action says whether a matching call is allowed or refused.
//
// +kubebuilder:validation:Enum=Allow;Deny
type Action string

// The actions.
const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
)

// AuthorizationPolicySpec is the specification of a policy.
//
// +kubebuilder:validation:XValidation:rule="self.action != 'Deny' || (has(self.rules) && size(self.rules) > 0)",message="a Deny needs at least one rule; the rule {} denies every call",fieldPath=".rules"
type AuthorizationPolicySpec struct {
	// PodSelector selects the pods of the namespace to which the policy applies, by their labels. If it is missing or
	// empty, the policy applies to all pods of the namespace.
	//
	// +optional
	// +kubebuilder:default={}
	PodSelector PodSelector `json:"podSelector,omitempty"`

	// Action is Allow or Deny.
	//
	// +optional
	// +kubebuilder:default=Allow
	Action Action `json:"action,omitempty"`

	// DryRun refuses nothing. Sidecars log and count the calls that the policy would refuse, beside the enforced policies.
	//
	// +optional
	DryRun bool `json:"dryRun,omitempty"`

	// Rules of the policy. A call matches the policy if it matches one of them. An Allow without rules allows nothing.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Rules []Rule `json:"rules,omitempty"`
}

// PodSelector selects pods by labels, like the podSelector of a NetworkPolicy.
type PodSelector struct {
	// MatchLabels are labels that a pod must have.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// MatchExpressions must all be true for the pod's labels.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty"`
}

// LabelRequirement is a condition on one label.
//
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",message="In and NotIn want values, Exists and DoesNotExist want none",fieldPath=".values"
type LabelRequirement struct {
	// Key of the label.
	//
	// +required
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`
	Key string `json:"key"`

	// Operator relates the label to the values.
	//
	// +required
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator metav1.LabelSelectorOperator `json:"operator"`

	// Values of In and NotIn.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	Values []LabelValue `json:"values,omitempty"`
}

// LabelValue is a value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// Rule matches calls that match all of its fields. A missing field matches every call.
//
// +kubebuilder:validation:XValidation:rule="has(self.ports) || !(has(self.http) || has(self.grpc))",message="want ports together with http or grpc: these ports must speak HTTP"
// +kubebuilder:validation:XValidation:rule="!(has(self.http) && has(self.grpc))",message="want http or grpc, not both: write two rules"
type Rule struct {
	// From lists callers; one match is enough. Only a caller with mTLS of the mesh has an identity; others match no item.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	From []Peer `json:"from,omitempty"`

	// Ports lists called ports, by the number on which the container listens; one match is enough.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	// +listType=set
	Ports []int32 `json:"ports,omitempty"`

	// HTTP lists conditions on requests; one match is enough. The rule's ports become HTTP only: other protocols fail there.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	HTTP []HTTPMatch `json:"http,omitempty"`

	// GRPC lists gRPC methods; one match is enough. The rule's ports become HTTP only: other protocols fail there.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	GRPC []GRPCMatch `json:"grpc,omitempty"`
}

// Peer is a caller.
//
// +kubebuilder:validation:XValidation:rule="has(self.serviceAccount) != has(self.namespace)",message="want exactly one of serviceAccount and namespace"
type Peer struct {
	// ServiceAccount of the calling pod.
	//
	// +optional
	ServiceAccount *ServiceAccount `json:"serviceAccount,omitempty"`

	// Namespace of the calling pod, whatever its service account.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
}

// ServiceAccount is the name of a service account.
type ServiceAccount struct {
	// Namespace of the service account; default: the namespace of the policy.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`

	// Name of the service account.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
}

// HTTPMatch matches requests that match all of its fields.
//
// +kubebuilder:validation:XValidation:rule="has(self.methods) || has(self.path)",message="want methods, path or both; a rule for every request has no http"
type HTTPMatch struct {
	// Methods lists HTTP methods; one match is enough. GET does not include HEAD.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:Pattern=`^[A-Z][A-Z-]*$`
	// +listType=set
	Methods []string `json:"methods,omitempty"`

	// Path of the request, without the query.
	//
	// +optional
	Path *PathMatch `json:"path,omitempty"`
}

// PathMatchType says how a path is compared.
//
// +kubebuilder:validation:Enum=Exact;PathPrefix;RegularExpression
type PathMatchType string

// The types of path matches.
const (
	PathExact             PathMatchType = "Exact"
	PathPrefix            PathMatchType = "PathPrefix"
	PathRegularExpression PathMatchType = "RegularExpression"
)

// PathMatch is a condition on a path. A path that servers may read in different ways, such as one with "//", "/../",
// "%2F" or ";", matches no Allow and every Deny.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || self.value.matches('^/[A-Za-z0-9._~!$&\\'()*+,=:@/-]*$')",message="want a path that begins with / and contains only letters, digits and -._~!$&'()*+,=:@/",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="self.type == 'RegularExpression' || !self.value.matches('//|/[.][.]?(/|$)')",message="want a path without //, /./ and /../: a policy never matches such a path",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="self.type != 'RegularExpression' || '/'.matches(self.value) in [true, false]",message="want a regular expression in RE2 syntax",fieldPath=".value"
type PathMatch struct {
	// Type is Exact, PathPrefix or RegularExpression. PathPrefix compares whole elements: /cart matches /cart and
	// /cart/items, but not /cartoon. RegularExpression must match the whole path.
	//
	// +optional
	// +kubebuilder:default=PathPrefix
	Type PathMatchType `json:"type,omitempty"`

	// Value to compare with.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// GRPCMatch matches gRPC methods.
type GRPCMatch struct {
	// Service with its package, such as shop.v1.Cart.
	//
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`
	Service string `json:"service"`

	// Method of the service. If it is missing, all methods match.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	Method string `json:"method,omitempty"`
}

// AuthorizationPolicyStatus is the state of a policy.
type AuthorizationPolicyStatus struct {
	// Conditions: Accepted says whether the policy is in effect, Effective whether it has an effect on existing pods.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Conditions of a policy, and their reasons.
const (
	ConditionAccepted  = "Accepted"
	ConditionEffective = "Effective"

	// ReasonAccepted: the whole policy is in effect.
	ReasonAccepted = "Accepted"
	// ReasonInvalid: a part of the policy is invalid.
	ReasonInvalid = "Invalid"
	// ReasonNoIdentities: the mesh has no identities, so sidecars cannot recognize callers.
	ReasonNoIdentities = "NoIdentities"

	// ReasonEffective: the policy selects pods, and somebody may call them.
	ReasonEffective = "Effective"
	// ReasonNoPods: the policy selects no pod with a sidecar, so it refuses nothing.
	ReasonNoPods = "NoPods"
	// ReasonNobodyAllowed: all policies together allow nobody to call a selected pod.
	ReasonNobodyAllowed = "NobodyAllowed"
)
