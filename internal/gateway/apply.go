package gateway

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// replicasManager owns the replicas of a Deployment from when an autoscaler is made until it first scales the Deployment.
const replicasManager = FieldManager + "-replicas"

// errLeftover is of an object of an earlier Gateway with the same name, which garbage collection is about to delete.
var errLeftover = errors.New("an earlier Gateway's object is still there")

// notOurs is of an object that has the name of one of a Gateway's.
type notOurs struct{ what string }

func (e notOurs) Error() string {
	return e.what + " exists and belongs to something else, so it is left alone; want to have it deleted or renamed"
}

// kinds are those of the objects of Gateways.
var kinds = []struct {
	object client.Object
	list   client.ObjectList
}{
	{&corev1.ConfigMap{}, &corev1.ConfigMapList{}},
	{&corev1.ServiceAccount{}, &corev1.ServiceAccountList{}},
	{&corev1.Service{}, &corev1.ServiceList{}},
	{&appsv1.Deployment{}, &appsv1.DeploymentList{}},
	{&policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{}},
	{&autoscalingv2.HorizontalPodAutoscaler{}, &autoscalingv2.HorizontalPodAutoscalerList{}},
}

// apply makes an object as it should be, unless one with its name is not the Gateway's own. Fields that we no longer set are
// removed by the API server.
func (d *Deployer) apply(ctx context.Context, gateway *gatewayv1.Gateway, object client.Object, p Parameters) error {
	exists, err := d.exists(ctx, gateway, object)
	if err != nil {
		return err
	}
	if deployment, ok := object.(*appsv1.Deployment); ok && p.Autoscaling != nil {
		if !exists {
			deployment.Spec.Replicas = new(p.Autoscaling.Min()) // until it exists for the autoscaler
		} else if err := d.handOver(ctx, deployment); err != nil {
			return fmt.Errorf("%s: spec.replicas: %w", describe(object), err)
		}
	}
	if err := apply(ctx, d.opts.Client, object, FieldManager); err != nil {
		return fmt.Errorf("%s: %w", describe(object), err)
	}
	return nil
}

func apply(ctx context.Context, c client.Client, object client.Object, manager client.FieldOwner) error {
	u, err := configuration(object)
	if err != nil {
		return err
	}
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), manager, client.ForceOwnership)
}

// configuration returns the fields of an object that we want to own.
func configuration(object client.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(content, "spec", "template", "metadata", "creationTimestamp")
	return &unstructured.Unstructured{Object: content}, nil
}

// exists reports whether an object exists. The error says that it is not the Gateway's. The cache has only objects with our
// label, so for any other the API server is asked.
func (d *Deployer) exists(ctx context.Context, gateway *gatewayv1.Gateway, object client.Object) (bool, error) {
	kind, err := apiutil.GVKForObject(object, d.opts.Client.Scheme())
	if err != nil {
		return false, err
	}
	made, err := d.opts.Client.Scheme().New(kind)
	if err != nil {
		return false, err
	}
	found, key := made.(client.Object), client.ObjectKeyFromObject(object)
	if err = d.opts.Client.Get(ctx, key, found); apierrors.IsNotFound(err) {
		live := &metav1.PartialObjectMetadata{}
		live.SetGroupVersionKind(kind)
		found, err = live, d.opts.Live.Get(ctx, key, live)
	}
	owner := metav1.GetControllerOf(found)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", describe(object), err)
	case metav1.IsControlledBy(found, gateway):
		return true, nil
	case owner != nil && owner.Kind == "Gateway" && owner.Name == gateway.Name:
		return false, fmt.Errorf("%s: %w", describe(object), errLeftover)
	default:
		return false, notOurs{describe(object)}
	}
}

// handOver leaves the replicas of a Deployment to an autoscaler. If we own them, another field manager of ours takes them over
// as they are, because the API server gives a field that its last owner drops the default, a single replica.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
func (d *Deployer) handOver(ctx context.Context, deployment *appsv1.Deployment) error {
	live := &appsv1.Deployment{}
	if err := d.opts.Live.Get(ctx, client.ObjectKeyFromObject(deployment), live); err != nil {
		return err
	}
	if live.Spec.Replicas == nil || !ownsReplicas(live.ManagedFields) {
		return nil
	}
	only := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		// With the version, nobody can have scaled it in the meantime.
		"metadata": map[string]any{"namespace": live.Namespace, "name": live.Name, "resourceVersion": live.ResourceVersion},
		"spec":     map[string]any{"replicas": int64(*live.Spec.Replicas)},
	}}
	return d.opts.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(only), client.FieldOwner(replicasManager), client.ForceOwnership)
}

// ownsReplicas reports whether FieldManager owns the replicas of a Deployment.
func ownsReplicas(managed []metav1.ManagedFieldsEntry) bool {
	for _, entry := range managed {
		if entry.Manager != FieldManager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			continue
		}
		fields := &fieldpath.Set{}
		if err := fields.FromJSON(entry.FieldsV1.GetRawReader()); err == nil && fields.Has(fieldpath.MakePathOrDie("spec", "replicas")) {
			return true
		}
	}
	return false
}

// prune deletes the Gateway's objects that are not wanted any more: of a Gateway that lost its ports or its autoscaler, or
// that changed its class.
func (d *Deployer) prune(ctx context.Context, gateway *gatewayv1.Gateway, wanted []client.Object) error {
	keep := map[string]bool{}
	for _, object := range wanted {
		keep[describe(object)] = true
	}
	var errs []error
	for _, k := range kinds {
		kind, err := apiutil.GVKForObject(k.object, d.opts.Client.Scheme())
		if err != nil {
			return err
		}
		list := k.list.DeepCopyObject().(client.ObjectList)
		labels := client.MatchingLabels{labelManagedBy: FieldManager, labelGateway: mesh.GatewayLabel(gateway.Name)}
		if err := d.opts.Client.List(ctx, list, client.InNamespace(gateway.Namespace), labels); err != nil {
			errs = append(errs, fmt.Errorf("list %ss of namespace %s: %w", kind.Kind, gateway.Namespace, err))
			continue
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return err
		}
		for _, item := range items {
			object := item.(client.Object)
			object.GetObjectKind().SetGroupVersionKind(kind)
			if keep[describe(object)] || !metav1.IsControlledBy(object, gateway) || object.GetDeletionTimestamp() != nil {
				continue
			}
			uid := object.GetUID()
			err := d.opts.Client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
			if client.IgnoreNotFound(err) != nil {
				errs = append(errs, fmt.Errorf("delete %s: %w", describe(object), err))
			}
		}
	}
	return errors.Join(errs...)
}
