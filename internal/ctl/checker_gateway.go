package ctl

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// checkClass reports a Gateway of a class that does not exist. Those of other controllers are theirs to judge.
func (c *checker) checkClass(o *fileObject, gw *gatewayv1.Gateway) {
	var known []string
	for _, class := range of[*gatewayv1.GatewayClass](c.after.objects) {
		known = append(known, class.Name)
	}
	slices.Sort(known)
	c.absent(o, "spec.gatewayClassName", mesh.ID{Kind: mesh.KindGatewayClass, Key: mesh.Key{Name: string(gw.Spec.GatewayClassName)}},
		": nobody serves the Gateway", strings.Join(known, ", "))
}

// checkParameters reports the parameters of a GatewayClass of ours that cannot be used.
func (c *checker) checkParameters(o *fileObject, class *gatewayv1.GatewayClass) {
	if class.Spec.ControllerName != config.ControllerName {
		return
	}
	_, err := config.ReadClassParameters(c.after.cfg.Gateways.Defaults, class, func(namespace, name string) *corev1.ConfigMap {
		found, _ := c.after.byID[mesh.ID{Kind: mesh.KindConfigMap, Key: mesh.Key{Namespace: namespace, Name: name}}].(*corev1.ConfigMap)
		return found
	})
	if err != nil {
		c.told(o, severityError, "spec.parametersRef", err.Error(), string(gatewayv1.GatewayClassReasonInvalidParameters))
	}
}

// checkParents reports Gateways and ListenerSets that do not exist.
func (c *checker) checkParents(o *fileObject, parents ...gatewayv1.ParentReference) {
	for i, ref := range parents {
		if id, ok := mesh.GatewayParent(o.id().Key, ref); ok {
			c.absent(o, fmt.Sprintf("spec.parentRefs[%d]", i), id, "", "")
		}
	}
}

func (c *checker) checkSet(o *fileObject, set *gatewayv1.ListenerSet) {
	if key, ok := mesh.ListenerSetParent(set); ok {
		c.absent(o, "spec.parentRef", mesh.ID{Kind: mesh.KindGateway, Key: key}, "", "")
	}
}

// absent reports an object that a field names and that does not exist. Where the files stand alone, others may have it.
func (c *checker) absent(o *fileObject, field string, id mesh.ID, effect, want string) {
	switch {
	case c.after.byID[id] != nil || c.missing[id.Kind] != nil:
	case c.alone:
		c.add(o.finding(severityWarning, field, id.Name, fmt.Sprintf("%s is not in the files%s", id, effect), want))
	default:
		c.add(o.finding(severityError, field, id.Name, fmt.Sprintf("%s does not exist%s", id, effect), want))
	}
}

// checkGateways reports what the statuses of Gateways, of their ListenerSets and of routes to them say about the files.
func (c *checker) checkGateways() {
	for _, key := range c.after.Gateways() {
		id := mesh.ID{Kind: mesh.KindGateway, Key: key}
		built := c.after.gateway(key)
		if o := c.byName[id.String()]; o != nil && built.err != nil {
			c.add(o.finding(severityError, "spec", "", fmt.Sprintf("not served, because Envoy would refuse it: %v", built.err), ""))
		}
		statuses := c.after.result.Statuses[id]
		for _, s := range statuses {
			if o := c.byName[s.Object.String()]; o != nil && s.Gateway != nil {
				c.checkConditions(o, s)
			}
		}
		routes := slices.DeleteFunc(slices.Clone(statuses), func(s mesh.Status) bool { return s.Gateway != nil })
		c.checkAttached(routes)
		c.checkConnections(routes, built.model)
		c.checkReferences(mesh.GatewayUnresolvedRefs(built.in))
	}
}

// warned are bad conditions of what is served nevertheless.
var warned = []gatewayv1.RouteConditionType{
	gatewayv1.RouteConditionType(gatewayv1.ListenerConditionOverlappingTLSConfig),
	gatewayv1.RouteConditionType(gatewayv1.GatewayConditionInsecureFrontendValidationMode),
}

// checkConditions reports the bad conditions of a Gateway or a ListenerSet and of its listeners.
func (c *checker) checkConditions(o *fileObject, s mesh.Status) {
	for _, b := range ownConditions(s) {
		field := ""
		if o.id().Kind == mesh.KindListenerSet {
			field = "spec.parentRef"
		}
		if b.listener != "" {
			i := slices.IndexFunc(listenersOf(o.Object), func(l gatewayv1.Listener) bool { return l.Name == b.listener })
			field = fmt.Sprintf("spec.listeners[%d]", i)
		}
		severity := severityError
		if slices.Contains(warned, b.Type) {
			severity = severityWarning
		}
		c.told(o, severity, field, b.Message, string(b.Reason))
	}
}

var (
	// withField is a message that begins with a field.
	withField = regexp.MustCompile(`^((?:spec|metadata)\.[^:\s]+): (.*)$`)
	// another begins the next part of a message that consists of several.
	another = regexp.MustCompile(`(?:; |\n)((?:[A-Z]\w+ [^:\s]+: )?spec\.)`)
)

// told reports the parts of a condition's message, each at the field with which it begins, else at the given one. The reason of a
// message of several parts is that of the first, so it says nothing of the others.
func (c *checker) told(o *fileObject, s severity, field, message, reason string) {
	parts := strings.Split(another.ReplaceAllString(message, "\x00$1"), "\x00")
	if reason = fmt.Sprintf(" (%s)", reason); len(parts) > 1 {
		reason = ""
	}
	for _, part := range parts {
		at, part := field, strings.TrimPrefix(part, o.String()+": ")
		if found := withField.FindStringSubmatch(part); found != nil {
			at, part = found[1], found[2]
		}
		c.add(o.finding(s, at, "", part+reason, ""))
	}
}

// checkConnections reports routes of connections that older ones leave nothing: their status says Accepted.
func (c *checker) checkConnections(statuses []mesh.Status, gw mesh.Gateway) {
	effective := map[mesh.ID]bool{}
	for _, s := range gw.Sockets {
		for _, l := range s.Listeners {
			for _, r := range l.Connections {
				effective[r.Origin.Route] = true
			}
		}
	}
	for _, s := range statuses {
		if o := c.byName[s.Object.String()]; o != nil && s.Object.Kind.OfConnections() && s.Conditions[0].True && !effective[s.Object] {
			c.add(o.finding(severityWarning, fmt.Sprintf("spec.parentRefs[%d]", parentIndex(o, s.Ref)), string(s.Ref.Name),
				"no effect: an older route takes the connections of these listeners, or they are not served", ""))
		}
	}
}

// guessed reports whether a Gateway or a ListenerSet chooses routes by labels of a namespace that are not known.
func (c *checker) guessed(parent mesh.ID, namespace string) bool {
	return c.namespaces.Has(namespace) && slices.ContainsFunc(listenersOf(c.after.byID[parent]), func(l gatewayv1.Listener) bool {
		return l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil && l.AllowedRoutes.Namespaces.From != nil &&
			*l.AllowedRoutes.Namespaces.From == gatewayv1.NamespacesFromSelector
	})
}
