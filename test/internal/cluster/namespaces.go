package cluster

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CreateNamespace creates a namespace, and waits for the service account that its pods need.
func (c *Cluster) CreateNamespace(ctx context.Context, name string, labels map[string]string) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	return Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
		_, err := c.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "namespace " + name + " has no service account default", nil
		}
		return "", err
	})
}

// DeleteNamespaces deletes the namespaces of a selector with all that is in them, and waits until they are gone.
func (c *Cluster) DeleteNamespaces(ctx context.Context, selector string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	list, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return err
	}
	return Each(ctx, len(list.Items), func(ctx context.Context, i int) error {
		name := list.Items[i].Name
		if err := c.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return c.WaitNoNamespace(ctx, name, timeout)
	})
}
