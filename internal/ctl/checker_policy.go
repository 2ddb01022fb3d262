package ctl

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// checkPolicies reports policies of the files that do not apply to a Service that they target.
func (c *checker) checkPolicies() {
	for _, o := range c.files {
		switch p := o.Object.(type) {
		case *gatewayxv1alpha1.XBackendTrafficPolicy:
			for i, ref := range p.Spec.TargetRefs {
				c.checkTarget(o, i, ref.Group, ref.Kind, ref.Name)
			}
		case *gatewayv1.BackendTLSPolicy:
			for i, ref := range p.Spec.TargetRefs {
				c.checkTarget(o, i, ref.Group, ref.Kind, ref.Name)
			}
		}
	}
}

// checkTarget reports what the statuses of a policy say for one of its targets.
func (c *checker) checkTarget(o *fileObject, i int, group gatewayv1.Group, kind gatewayv1.Kind, name gatewayv1.ObjectName) {
	field := fmt.Sprintf("spec.targetRefs[%d]", i)
	if group != "" || kind != gatewayv1.Kind(mesh.KindService) {
		c.add(o.finding(severityWarning, field+".kind", string(kind), "not a target that Mizzen supports", `a Service: {group: "", kind: Service, name: …}`))
		return
	}
	service, found := mesh.Key{Namespace: o.GetNamespace(), Name: string(name)}, false
	for _, s := range c.after.targeted(service, o.id().Kind) {
		if s.Object != o.id() {
			continue
		}
		found = true
		for _, condition := range s.Conditions {
			switch {
			case !condition.Bad():
			case withField.MatchString(condition.Message):
				c.told(o, severityError, field, condition.Message, string(condition.Reason))
			default:
				c.add(o.finding(severityError, field, string(name), fmt.Sprintf("%s (%s)", condition.Message, condition.Reason), ""))
			}
		}
	}
	if !found && o.id().Kind == mesh.KindBackendTLSPolicy && !c.alone && c.missing[mesh.KindGateway] == nil {
		c.add(o.finding(severityWarning, field, string(name), fmt.Sprintf("no effect: no route of a Gateway sends to Service %s", service), ""))
	}
}
