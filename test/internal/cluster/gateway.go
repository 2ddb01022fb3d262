package cluster

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Gateway returns a Gateway.
func (c *Cluster) Gateway(ctx context.Context, namespace, name string) (*gatewayv1.Gateway, error) {
	gateways := c.Dynamic.Resource(schema.GroupVersion(gatewayv1.GroupVersion).WithResource("gateways")).Namespace(namespace)
	object, err := gateways.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	gw := &gatewayv1.Gateway{}
	return gw, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, gw)
}

// GatewayAddress waits until the newest generation of a Gateway is programmed, and returns its address.
func (c *Cluster) GatewayAddress(ctx context.Context, namespace, name string, timeout time.Duration) (address string, err error) {
	err = Poll(ctx, timeout, func(ctx context.Context) (string, error) {
		gw, err := c.Gateway(ctx, namespace, name)
		if err != nil {
			return "", err
		}
		programmed := meta.FindStatusCondition(gw.Status.Conditions, string(gatewayv1.GatewayConditionProgrammed))
		if programmed == nil || programmed.Status != metav1.ConditionTrue || programmed.ObservedGeneration != gw.Generation {
			return fmt.Sprintf("Gateway %s/%s is not programmed: %v", namespace, name, gw.Status.Conditions), nil
		}
		if len(gw.Status.Addresses) == 0 {
			return fmt.Sprintf("Gateway %s/%s has no address", namespace, name), nil
		}
		address = gw.Status.Addresses[0].Value
		return "", nil
	})
	return address, err
}
