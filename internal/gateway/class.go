package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/consts"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// ReconcileClass makes Mizzen's GatewayClass if it is missing, and writes the status of one of ours. It changes no
// GatewayClass otherwise.
func (d *Deployer) ReconcileClass(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	class := &gatewayv1.GatewayClass{}
	err := d.opts.Client.Get(ctx, req.NamespacedName, class)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, d.createClass(ctx, req.Name)
	}
	if err != nil || class.Spec.ControllerName != status.ControllerName {
		return reconcile.Result{}, err
	}
	find, failed := d.configMaps(ctx)
	_, parametersErr := config.ReadClassParameters(d.opts.Config.Gateways.Defaults, class, find)
	if *failed != nil {
		return reconcile.Result{}, *failed
	}
	versions, err := d.versions(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	before := class.Status.DeepCopy()
	writeClassStatus(class, parametersErr, versions)
	if equality.Semantic.DeepEqual(before, &class.Status) {
		return reconcile.Result{}, nil
	}
	if err := d.opts.Client.Status().Update(ctx, class); err != nil {
		return reconcile.Result{}, fmt.Errorf("status of GatewayClass %s: %w", class.Name, err)
	}
	return reconcile.Result{}, nil
}

// createClass makes Mizzen's GatewayClass, unless another one has its name.
func (d *Deployer) createClass(ctx context.Context, name string) error {
	g := d.opts.Config.Gateways
	if !*g.CreateClass || name != g.ClassName {
		return nil
	}
	class := &gatewayv1.GatewayClass{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{labelManagedBy: FieldManager}},
		Spec:       gatewayv1.GatewayClassSpec{ControllerName: status.ControllerName, Description: new("Gateways with pods of their own, in the mesh")},
	}
	if d.opts.ClassOwner != nil {
		owner, err := d.opts.ClassOwner(ctx)
		if err != nil {
			return fmt.Errorf("owner of GatewayClass %s: %w", name, err)
		}
		class.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	err := d.opts.Client.Create(ctx, class, client.FieldOwner(FieldManager))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create GatewayClass %s: %w", name, err)
	}
	return nil
}

// versions returns the versions of the Gateway API's CRDs in the cluster, sorted, each once; "" is that of a CRD without one.
func (d *Deployer) versions(ctx context.Context) ([]string, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kube.CRDMetadata().GroupVersionKind())
	list.Kind += "List"
	if err := d.opts.Client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list CRDs: %w", err)
	}
	var out []string
	for _, crd := range list.Items {
		if strings.HasSuffix(crd.Name, "."+gatewayv1.GroupName) {
			out = append(out, crd.Annotations[consts.BundleVersionAnnotation])
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// writeClassStatus sets our conditions and features in a GatewayClass's status, and leaves the conditions of others.
// https://gateway-api.sigs.k8s.io/reference/spec/#gatewayclassconditiontype
func writeClassStatus(class *gatewayv1.GatewayClass, parametersErr error, versions []string) {
	accepted := metav1.Condition{
		Type: string(gatewayv1.GatewayClassConditionStatusAccepted), Status: metav1.ConditionTrue,
		Reason: string(gatewayv1.GatewayClassReasonAccepted), Message: "Mizzen serves the Gateways of this class.",
	}
	if parametersErr != nil {
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, string(gatewayv1.GatewayClassReasonInvalidParameters), parametersErr.Error()
	}
	version := metav1.Condition{
		Type: string(gatewayv1.GatewayClassConditionStatusSupportedVersion), Status: metav1.ConditionTrue,
		Reason: string(gatewayv1.GatewayClassReasonSupportedVersion), Message: "The CRDs of the Gateway API have a supported version: " + strings.Join(versions, ", ") + ".",
	}
	others := slices.DeleteFunc(slices.Clone(versions), func(v string) bool { return strings.HasPrefix(v, config.GatewayAPIVersions) })
	if len(others) > 0 {
		version.Status, version.Reason = metav1.ConditionFalse, string(gatewayv1.GatewayClassReasonUnsupportedVersion)
		version.Message = fmt.Sprintf("CRDs of the Gateway API have the versions %q; want %sx. Gateways are served as far as they can be.", others, config.GatewayAPIVersions)
	}
	for _, condition := range []metav1.Condition{accepted, version} {
		old := meta.FindStatusCondition(class.Status.Conditions, condition.Type)
		if old != nil && old.ObservedGeneration > class.Generation {
			continue // written by one that knows a newer class than the cache
		}
		condition.ObservedGeneration = class.Generation
		condition.Message = shorten(condition.Message)
		meta.SetStatusCondition(&class.Status.Conditions, condition)
	}
	class.Status.SupportedFeatures = nil
	for _, name := range Features() {
		class.Status.SupportedFeatures = append(class.Status.SupportedFeatures, gatewayv1.SupportedFeature{Name: name})
	}
}

// maxMessage is the longest message of a condition.
const maxMessage = 32768

func shorten(message string) string {
	if len(message) > maxMessage {
		return strings.ToValidUTF8(message[:maxMessage], "")
	}
	return message
}
