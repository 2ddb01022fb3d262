package ctl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/webhook"
)

// The states of a check, from the best to the worst.
const (
	stateOK      = "ok"
	stateWarning = "warning"
	stateUnknown = "unknown"
	stateError   = "error"
)

var states = []string{stateOK, stateWarning, stateUnknown, stateError}

// statusView is the result of status, and the format of -o json and yaml.
type statusView struct {
	Checks []statusCheck `json:"checks"`
}

// statusCheck is one thing that was looked at. Its state is the worst of its details.
type statusCheck struct {
	Name    string         `json:"name"`
	State   string         `json:"state"`
	Text    string         `json:"text"`
	Details []statusDetail `json:"details,omitempty"`
}

// statusDetail is what is wrong with one object, and what helps.
type statusDetail struct {
	State  string `json:"state"`
	Object string `json:"object"`
	Text   string `json:"text"`
	Help   string `json:"help,omitempty"`
}

func (c *statusCheck) add(state, object, text, help string) {
	c.Details = append(c.Details, statusDetail{state, object, text, help})
	if slices.Index(states, state) > slices.Index(states, c.State) {
		c.State = state
	}
}

// unknown makes a check of what could not be read.
func (c *statusCheck) unknown(err error) {
	c.State, c.Text = stateUnknown, "cannot be told: "+err.Error()
}

func (s *meshStatus) view(now time.Time) statusView {
	checks := []namedCheck{
		{"control plane", s.checkControlPlane},
		{"webhook", s.checkWebhook},
		{"proxies", s.checkProxies},
		{"pods", s.checkPods},
		{"versions", s.checkVersions},
		{"certificates", func(c *statusCheck) { s.checkCertificates(c, now) }},
		{"gateways", s.checkGateways},
		{"problems", s.checkProblems},
	}
	if len(s.revisions) > 0 {
		checks = append(checks, namedCheck{"revisions", s.checkRevisions})
	}
	return viewOf(checks)
}

type namedCheck struct {
	name  string
	check func(*statusCheck)
}

// viewOf carries out checks, each of which is ok unless it says something else.
func viewOf(checks []namedCheck) statusView {
	v := statusView{}
	for _, c := range checks {
		check := statusCheck{Name: c.name, State: stateOK}
		c.check(&check)
		v.Checks = append(v.Checks, check)
	}
	return v
}

// exit is the error with which status ends.
func (v statusView) exit() error {
	if bad := v.bad(); bad != "" {
		return &ExitError{exitNotWell, "not well, or not known to be: " + bad}
	}
	return nil
}

// bad names the checks that found something wrong, or could not look.
func (v statusView) bad() string {
	var names []string
	for _, c := range v.Checks {
		if c.State == stateError || c.State == stateUnknown {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

func (s *meshStatus) checkControlPlane(c *statusCheck) {
	if apierrors.IsNotFound(s.controller.err) {
		c.Text = "none"
		c.add(stateError, "namespace "+s.system, "has no Deployment mizzen-controller", "helm install, or --system-namespace if it is elsewhere")
		return
	}
	if s.controller.err != nil {
		c.unknown(s.controller.err)
		return
	}
	d := s.controller.is
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	object := fmt.Sprintf("deployment %s/%s", d.Namespace, d.Name)
	c.Text = fmt.Sprintf("%d of %s ready", d.Status.ReadyReplicas, plural(int(wanted), "replica"))
	switch {
	case d.Status.ReadyReplicas == 0:
		c.add(stateError, object, "no replica is ready: new pods of the mesh are refused, and changes reach no sidecar", "kubectl logs -n "+s.system+" deploy/mizzen-controller")
	case d.Status.ReadyReplicas < wanted:
		c.add(stateWarning, object, fmt.Sprintf("%d of %d replicas are not ready", wanted-d.Status.ReadyReplicas, wanted), "kubectl get pods -n "+s.system)
	}
	for _, r := range s.replicas {
		if r.err != nil {
			c.add(stateUnknown, fmt.Sprintf("pod %s/%s", s.system, r.pod), "cannot be asked: "+r.err.Error(), "")
		} else if up, ok := r.metrics.gauge("mizzen_kubernetes_api_up"); ok && up == 0 {
			c.add(stateError, fmt.Sprintf("pod %s/%s", s.system, r.pod), "does not reach the API server: it serves its last state", "kubectl logs -n "+s.system+" "+r.pod)
		}
	}
}

func (s *meshStatus) checkWebhook(c *statusCheck) {
	const object = "mutatingwebhookconfiguration mizzen"
	if apierrors.IsNotFound(s.webhook.err) {
		c.Text = "not registered"
		c.add(stateError, object, "is not there: no pod gets a sidecar", "helm upgrade")
		return
	}
	if s.webhook.err != nil {
		c.unknown(s.webhook.err)
		return
	}
	c.Text = "registered"
	if name := withoutBundle(s.webhook.is); name != "" {
		c.Text = "registered, but not in use"
		c.add(stateError, object, name+" has no caBundle, so that the API server trusts no replica", "the control plane writes it: kubectl logs -n "+s.system+" deploy/mizzen-controller")
	}
}

func (s *meshStatus) checkProxies(c *statusCheck) {
	if err := s.unheard(); err != nil {
		c.unknown(err)
		return
	}
	proxies := s.proxies
	refuses, behind := map[string]bool{}, 0
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		p := proxies[name]
		for _, kind := range slices.Sorted(maps.Keys(p.NACKs)) {
			nack := p.NACKs[kind]
			if nack.Over != nil {
				continue
			}
			refuses[name] = true
			c.add(stateError, "pod "+name, fmt.Sprintf("refused %s %s: %s", kind, strings.Join(nack.Resources, ", "), printable(nack.Error)), "it keeps what it had; this is a fault of Mizzen's, unless its version is another one")
		}
		if !refuses[name] && p.unacknowledged() {
			behind++
		}
	}
	refused := len(refuses)
	c.Text = fmt.Sprintf("%d connected, %d in sync", len(proxies), len(proxies)-refused-behind)
	if behind > 0 {
		c.Text += fmt.Sprintf(", %d catching up", behind)
	}
	if refused > 0 {
		c.Text += fmt.Sprintf(", %d refused a configuration", refused)
	}
	for _, p := range s.unconnected() {
		c.add(stateError, podName(p.Key), "is ready and not connected to the control plane: it goes on with what it has", fmt.Sprintf("kubectl logs -n %s %s -c mizzen-proxy", p.Namespace, p.Name))
	}
}

func (p connectedProxy) unacknowledged() bool {
	for _, t := range p.Types {
		if t.Unacknowledged {
			return true
		}
	}
	return false
}

func (s *meshStatus) checkPods(c *statusCheck) {
	if s.inventory.err != nil {
		c.unknown(s.inventory.err)
		return
	}
	if err := s.inventory.is.namespacesErr; err != nil {
		c.unknown(err)
		return
	}
	c.Text = fmt.Sprintf("%d with a sidecar", len(s.inventory.is.sidecars()))
	lacking := map[string]int{} // by namespace
	for _, p := range s.inventory.is.pods {
		ns := s.inventory.is.namespaces[p.Namespace]
		if p.injected || p.ended() || p.source.DeletionTimestamp != nil || ns == nil || !webhook.Decide(ns.Labels, p.source, s.system).Inject || !s.selects(ns.Labels) {
			continue
		}
		lacking[p.Namespace]++
	}
	total := 0
	for _, ns := range slices.Sorted(maps.Keys(lacking)) {
		total += lacking[ns]
		c.add(stateWarning, "namespace "+ns, plural(lacking[ns], "pod")+" without the sidecar that the namespace or their label asks for", "they are older than the label: kubectl rollout restart deployment,statefulset,daemonset -n "+ns)
	}
	if total > 0 {
		c.Text += fmt.Sprintf(", %d without one that should have it", total)
	}
}

func (s *meshStatus) checkVersions(c *statusCheck) {
	if s.inventory.err != nil {
		c.unknown(s.inventory.err)
		return
	}
	control := map[string]int{}
	for _, r := range s.replicas {
		if r.revision == "" { // checkRevisions has the others
			control[cmp.Or(r.version, unknownVersion)]++
		}
	}
	sidecars := map[string]int{}
	for _, p := range s.inventory.is.sidecars() {
		if sidecar.Revision(&p.source.Spec) == "" {
			sidecars[sidecarVersion(p.source)]++
		}
	}
	c.Text = "control plane " + byVersion(control) + "; sidecars " + byVersion(sidecars)
	if len(control) > 1 {
		c.add(stateWarning, "namespace "+s.system, "replicas of several versions", "an upgrade is under way, or has stopped: helm status mizzen -n "+s.system)
	}
	for _, version := range slices.Sorted(maps.Keys(sidecars)) {
		if control[version] == 0 && len(control) > 0 {
			c.add(stateWarning, plural(sidecars[version], "pod"), "with a sidecar of version "+printable(version), "a pod gets the sidecar of the control plane when it is made anew")
		}
	}
}

// selects reports whether the webhook is asked about pods of a namespace with these labels. It leaves some namespaces out.
func (s *meshStatus) selects(namespace map[string]string) bool {
	if s.webhook.err != nil {
		return true
	}
	return slices.ContainsFunc(s.webhook.is.Webhooks, func(w admissionv1.MutatingWebhook) bool {
		selector, err := metav1.LabelSelectorAsSelector(w.NamespaceSelector)
		return err == nil && (w.NamespaceSelector == nil || selector.Matches(labels.Set(namespace)))
	})
}

// soon is when the end of a certificate is worth a warning: of one that lives longer, the control plane makes the next long before.
const soon = 24 * time.Hour

func (s *meshStatus) checkCertificates(c *statusCheck, now time.Time) {
	if err := s.unheard(); err != nil {
		c.unknown(err)
		return
	}
	var texts []string
	for _, m := range []struct{ what, expiry, usable string }{
		{"the mesh's CA", "mizzen_identity_ca_expiry_timestamp_seconds", "mizzen_identity_ca_secret_usable"},
		{"the webhook's CA", "mizzen_webhook_ca_expiry_timestamp_seconds", "mizzen_webhook_ca_secret_usable"},
		{"the webhook's certificate", "mizzen_webhook_certificate_expiry_timestamp_seconds", ""},
	} {
		var first time.Time
		for _, r := range s.replicas {
			object := fmt.Sprintf("pod %s/%s", s.system, r.pod)
			if usable, ok := r.metrics.gauge(m.usable); ok && usable == 0 {
				c.add(stateError, object, "cannot use the Secret of "+m.what, "kubectl logs -n "+s.system+" "+r.pod)
			}
			ends, ok := r.metrics.time(m.expiry)
			if !ok {
				continue
			}
			if first.IsZero() || ends.Before(first) {
				first = ends
			}
			switch {
			case ends.Before(now):
				c.add(stateError, object, m.what+" has expired, "+when(ends, now), "kubectl logs -n "+s.system+" "+r.pod+" says why there is no new one")
			case ends.Before(now.Add(soon)) && m.usable != "":
				c.add(stateWarning, object, m.what+" expires "+when(ends, now), "the control plane makes the next when a third of its life is left: kubectl logs -n "+s.system+" "+r.pod)
			}
		}
		if !first.IsZero() {
			verb := "expires"
			if first.Before(now) {
				verb = "expired"
			}
			texts = append(texts, fmt.Sprintf("%s %s %s", m.what, verb, distance(first, now)))
		}
	}
	c.Text = cmp.Or(strings.Join(texts, ", "), "none")
}

func (s *meshStatus) checkGateways(c *statusCheck) {
	for _, err := range []error{s.classes.err, s.gateways.err} {
		if err != nil {
			c.unknown(err)
			return
		}
	}
	ours := s.ourClasses()
	total, programmed := 0, 0
	for _, gw := range s.gateways.is.Items {
		if !ours[gw.Spec.GatewayClassName] {
			continue
		}
		total++
		condition := apimeta.FindStatusCondition(gw.Status.Conditions, string(gatewayv1.GatewayConditionProgrammed))
		if condition != nil && condition.Status == "True" {
			programmed++
			continue
		}
		text := "has no status yet"
		if condition != nil {
			text = fmt.Sprintf("is not programmed: %s: %s", condition.Reason, printable(condition.Message))
		}
		c.add(stateWarning, fmt.Sprintf("gateway %s/%s", gw.Namespace, gw.Name), text, fmt.Sprintf("mizzenctl routes gateway/%s.%s", gw.Name, gw.Namespace))
	}
	c.Text = fmt.Sprintf("%d of %d programmed", programmed, total)
	if total == 0 {
		c.Text = "none"
	}
}

func (s *meshStatus) checkProblems(c *statusCheck) {
	if err := s.unheard(); err != nil {
		c.unknown(err)
		return
	}
	all := map[string][]string{}
	for _, r := range s.replicas {
		for about, problems := range r.problems {
			for _, p := range problems {
				if !slices.Contains(all[about], p) {
					all[about] = append(all[about], p)
				}
			}
		}
	}
	n := 0
	for _, about := range slices.Sorted(maps.Keys(all)) {
		for _, p := range all[about] {
			n++
			c.add(stateWarning, about, printable(strings.TrimPrefix(p, about+": ")), "")
		}
	}
	c.Text = "none"
	if n > 0 {
		c.Text = plural(n, "problem") + " in objects that Mizzen works around"
	}
}
