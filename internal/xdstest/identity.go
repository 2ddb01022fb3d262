package xdstest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/sdstest"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// newAuthority makes the mesh's CA. Replicas are reached at the address in the configuration, or on loopback.
func newAuthority(ctx context.Context, cfg *config.Mesh) (*authority.Manager, error) {
	id, err := spiffe.Of(cfg.TrustDomain, "mizzen-system", "mizzen-controller")
	if err != nil {
		return nil, err
	}
	serving := authority.ServingLeaf(id, "mizzen-controller.mizzen-system.svc")
	serving.IPs, serving.Lifetime = []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour
	if host, _, err := net.SplitHostPort(cfg.ControlPlaneAddress); err == nil {
		if ip := net.ParseIP(host); ip != nil {
			serving.IPs = append(serving.IPs, ip)
		}
	}
	kubernetes := fake.NewClientBuilder().Build()
	m, err := authority.New(authority.Options{
		TrustDomain: cfg.TrustDomain, Serving: serving, Agents: func(context.Context) authority.Agents { return authority.Agents{} },
		Options: casecret.Options{
			Namespace: "mizzen-system", SecretName: "mizzen-ca",
			Lifetimes: rotation.Lifetimes{CA: ca.Options{CommonName: "test"}, CALifetime: 24 * time.Hour, LeafLifetime: time.Hour},
			Client:    kubernetes, Reader: kubernetes,
			Owner:    func(context.Context) (metav1.OwnerReference, error) { return metav1.OwnerReference{UID: "1"}, nil },
			IsLeader: func() bool { return true },
			Recorder: events.NewFakeRecorder(100), Registerer: prometheus.NewRegistry(), Log: logr.Discard(), Now: time.Now,
		},
	})
	if err != nil {
		return nil, err
	}
	if _, err := m.Reconcile(ctx, reconcile.Request{}); err != nil {
		return nil, err
	}
	return m, m.Ready()
}

// Certificate returns one of a pod as the control plane issues it, with a key.
func (c *ControlPlane) Certificate(pod *corev1.Pod) (*tls.Certificate, error) {
	if c.Authority == nil {
		return nil, errors.New("a mesh without identities has no certificates")
	}
	id, err := spiffe.Of(c.Config.TrustDomain, pod.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	chain, err := c.Authority.Sign(authority.PodLeaf(id, pod.Name, string(pod.UID)), request)
	if err != nil {
		return nil, fmt.Errorf("a certificate for pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	encoded, err := ca.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(chain, encoded)
	return &certificate, err
}

// Roots returns the mesh's roots in PEM.
func (c *ControlPlane) Roots() []byte {
	roots, _, _ := c.Authority.Bundle()
	return []byte(roots)
}

// Secrets returns what serves a pod's certificate and the mesh's roots to its Envoy.
func (c *ControlPlane) Secrets(of *tls.Certificate) (*sdstest.Server, error) {
	return sdstest.Of(of, c.Roots())
}

// ClientTLS is how the holder of a certificate calls an ADS server on loopback.
func (c *ControlPlane) ClientTLS(certificate *tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Roots())
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: "127.0.0.1", RootCAs: roots, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{*certificate},
	}
}
