package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Each kind of change returns when it has taken effect.

func (c *changes) newRoute(ctx context.Context, i int) error {
	if err := c.makeRoute(ctx, route(c.ns, fmt.Sprintf("route-%04d", i), c.ns, hostOf(i), serverName, httpPort)); err != nil {
		return err
	}
	return c.effective(ctx, "http://"+hostOf(i)+"/", "", "")
}

// newWeight gives most requests to the one Service and then to the other. With a header that says which change it is one sees when
// it has taken effect.
func (c *changes) newWeight(ctx context.Context, i int) error {
	c.weight = 90 - i%2*80
	return c.newHeader(ctx, i)
}

func (c *changes) newHeader(ctx context.Context, _ int) error {
	c.turn++
	if err := c.Apply(ctx, c.ns, c.web()); err != nil {
		return err
	}
	return c.effective(ctx, "http://"+webHost+"/", "x-turn", fmt.Sprint(c.turn))
}

// secret puts a new certificate into the Gateway's Secret, and returns its serial number.
func (c *changes) secret(ctx context.Context) (serial string, err error) {
	cert, err := newCertificate(webHost, grpcHost)
	if err != nil {
		return "", err
	}
	object := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: gatewayName}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert.chain, corev1.TLSPrivateKeyKey: cert.key},
	}
	secrets := c.CoreV1().Secrets(c.ns)
	if _, err = secrets.Create(ctx, object, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(ctx, object, metav1.UpdateOptions{})
	}
	return cert.serial.String(), err
}

func (c *changes) newCertificate(ctx context.Context, _ int) error {
	want, err := c.secret(ctx)
	if err != nil {
		return err
	}
	return cluster.Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
		got, err := c.servedSerial(ctx)
		if err == nil && got != want {
			return "the certificate before is served", nil
		}
		return "", err
	})
}

// scaled adds a pod to the backend, and then takes it away.
func (c *changes) scaled(ctx context.Context, i int) error {
	pods := 3 - i%2
	if err := c.Scale(ctx, c.ns, serverName, pods); err != nil {
		return err
	}
	if err := c.WaitDeployment(ctx, c.ns, serverName, readyTimeout); err != nil {
		return err
	}
	return cluster.Poll(ctx, readyTimeout, func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + serverName})
		if err != nil || len(list.Items) == pods {
			return "", err
		}
		return fmt.Sprintf("%d pods of %s/%s, want %d", len(list.Items), c.ns, serverName, pods), nil
	})
}

func (c *changes) newListener(ctx context.Context, i int) error {
	port := 8001 + i
	c.listeners += fmt.Sprintf("    - {name: extra-%d, port: %d, protocol: HTTP}\n", i, port)
	if err := c.Apply(ctx, c.ns, fmt.Sprintf(changedGateway, c.listeners)); err != nil {
		return err
	}
	return c.effective(ctx, fmt.Sprintf("http://%s:%d/", webHost, port), "", "")
}

// appears waits for a Deployment, which may not be there yet.
func (b *bench) appears(ctx context.Context, name string) error {
	err := cluster.Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
		_, err := b.AppsV1().Deployments(b.ns).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return fmt.Sprintf("no Deployment %s/%s", b.ns, name), nil
		}
		return "", err
	})
	if err != nil {
		return err
	}
	return b.WaitDeployment(ctx, b.ns, name, readyTimeout)
}
