package ctl

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// revision is a control plane beside the main one, and what names it.
type revision struct {
	controller read[*appsv1.Deployment]
	webhook    read[*admissionv1.MutatingWebhookConfiguration]
	// namespaces name it in their label, and pods are the numbers of those with a sidecar of its by version.
	namespaces []string
	pods       map[string]int
}

// readRevisions finds the revisions that a namespace or a pod names.
func (s *meshStatus) readRevisions(ctx context.Context, c client.Client) {
	s.revisions = map[string]*revision{}
	if s.inventory.err != nil {
		return
	}
	of := func(name string) *revision {
		if s.revisions[name] == nil {
			s.revisions[name] = &revision{pods: map[string]int{}}
		}
		return s.revisions[name]
	}
	for _, name := range slices.Sorted(maps.Keys(s.inventory.is.namespaces)) {
		if r := s.inventory.is.namespaces[name].Labels[config.LabelRevision]; r != "" {
			of(r).namespaces = append(of(r).namespaces, name)
		}
	}
	for _, p := range s.inventory.is.pods {
		switch {
		case p.ended():
		case isReplica(p.source, s.system):
			if r := p.source.Labels[config.LabelRevision]; r != "" {
				of(r)
			}
		case sidecar.Revision(&p.source.Spec) != "":
			of(sidecar.Revision(&p.source.Spec)).pods[sidecarVersion(p.source)]++
		}
	}
	for name, r := range s.revisions {
		r.controller = get(ctx, c, client.ObjectKey{Namespace: s.system, Name: config.OfRevision(controllerName, name)}, &appsv1.Deployment{})
		r.webhook = get(ctx, c, client.ObjectKey{Name: config.OfRevision("mizzen", name)}, &admissionv1.MutatingWebhookConfiguration{})
	}
}

// checkRevisions is made only where there are some.
func (s *meshStatus) checkRevisions(c *statusCheck) {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(s.revisions)) {
		r := s.revisions[name]
		sidecars := 0
		for _, n := range r.pods {
			sidecars += n
		}
		object := "revision " + printable(name)
		if apierrors.IsNotFound(r.controller.err) {
			texts = append(texts, printable(name)+" not installed")
			if len(r.namespaces) > 0 {
				c.add(stateWarning, object, "is not installed, and is named by "+strings.Join(r.namespaces, ", ")+": their pods are the main control plane's", "helm install, or kubectl label namespace "+r.namespaces[0]+" "+config.LabelRevision+"-")
			}
			if sidecars > 0 {
				c.add(stateError, object, "is not installed, and has injected "+plural(sidecars, "pod")+": they go on with what they have, until their certificates expire", "kubectl rollout restart in their namespaces")
			}
			continue
		}
		if r.controller.err != nil {
			c.add(stateUnknown, object, "cannot be told: "+r.controller.err.Error(), "")
			continue
		}
		replicas := map[string]int{}
		for _, replica := range s.replicas {
			if replica.revision == name {
				replicas[cmp.Or(replica.version, unknownVersion)]++
			}
		}
		texts = append(texts, fmt.Sprintf("%s: control plane %s; sidecars %s", printable(name), byVersion(replicas), byVersion(r.pods)))
		if r.controller.is.Status.ReadyReplicas == 0 {
			c.add(stateError, object, "no replica is ready: new pods of its namespaces are refused, and changes reach none of its sidecars",
				fmt.Sprintf("kubectl logs -n %s deploy/%s", s.system, r.controller.is.Name))
		}
		switch err := r.webhook.err; {
		case apierrors.IsNotFound(err):
			c.add(stateError, object, "its webhook is not registered: it injects no pod", "helm upgrade")
		case err != nil:
			c.add(stateUnknown, object, "its webhook cannot be told: "+err.Error(), "")
		case withoutBundle(r.webhook.is) != "":
			c.add(stateError, object, "its webhook has no caBundle, so that the API server trusts no replica", fmt.Sprintf("kubectl logs -n %s deploy/%s", s.system, r.controller.is.Name))
		}
	}
	c.Text = strings.Join(texts, "; ")
}

// withoutBundle returns the name of a webhook that has no caBundle, if there is one.
func withoutBundle(c *admissionv1.MutatingWebhookConfiguration) string {
	for _, w := range c.Webhooks {
		if len(w.ClientConfig.CABundle) == 0 {
			return w.Name
		}
	}
	return ""
}
