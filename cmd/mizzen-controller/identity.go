package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	identitykube "github.com/mizzen-mesh/mizzen/internal/identity/kube"
	"github.com/mizzen-mesh/mizzen/internal/replicas"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// Token reviews bypass the client's rate limit, which is meant for controllers. The issuer limits them.
const (
	reviewsPerSecond = 500
	reviewsAtOnce    = 1000
)

// askReplicas bounds the wait for the other replicas' reports of their agents.
const askReplicas = 2 * time.Second

// identity has the parts of the process that issue identities.
type identity struct {
	authority *authority.Manager
	issuer    *issuer.Server
	// replicas asks the other replicas over mTLS.
	replicas *replicas.Replicas
	// refused writes an event about a pod whose request was refused; action is the refused action.
	refused func(action, namespace, pod, uid string, why error)
}

// trustBundle returns the mesh's roots for injected pods.
func (i *identity) trustBundle() ([]byte, error) {
	if err := i.authority.Ready(); err != nil {
		return nil, err
	}
	bundle, _, _ := i.authority.Bundle()
	return []byte(bundle), nil
}

// setupIdentity adds the CA and the server that signs with it to the manager; every replica runs both.
func setupIdentity(ctx context.Context, c *controller, mesh *config.Mesh, restConfig *rest.Config, pages *statusPages,
	others func(context.Context) ([]string, error),
) (*identity, error) {
	log := c.log.WithName("identity")
	serving, err := servingLeaf(c.opts, mesh)
	if err != nil {
		return nil, err
	}
	out := &identity{refused: refusals(c.mgr.GetEventRecorder("mizzen-controller"))}
	pods := &identitykube.Pods{Cache: c.mgr.GetCache(), Live: c.mgr.GetAPIReader()}
	options := c.caOptions(c.opts.identitySecret, identityLifetimes(mesh), c.leader, log)
	options.ReadOnly = mesh.Revision != ""
	out.authority, err = authority.New(authority.Options{
		Options:     options,
		TrustDomain: mesh.TrustDomain, Serving: serving, Keep: c.opts.keepCA,
		Agents: func(ctx context.Context) authority.Agents { return askAgents(ctx, out.issuer, out.replicas, pods) },
	})
	if err != nil {
		return nil, err
	}
	out.replicas = replicas.New(replicas.Options{List: others, TLS: out.authority.PeerTLS(), Log: log})
	if err := out.authority.SetupWithManager(c.mgr, c.leader.OnLead); err != nil {
		return nil, err
	}
	tokens, err := tokenReviews(restConfig, c.mgr.GetHTTPClient())
	if err != nil {
		return nil, err
	}
	if err := identitykube.IndexAddresses(ctx, c.mgr.GetFieldIndexer()); err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	out.issuer, err = issuer.New(issuer.Options{
		CA: out.authority, Tokens: tokens, Pods: pods,
		TrustDomain: mesh.TrustDomain, TLS: out.authority.TLS(false), CheckSourceAddress: *mesh.Identity.CheckSourceAddress,
		Refused: func(caller issuer.Caller, why error) {
			out.refused("SignCertificate", caller.Namespace, caller.Pod, caller.UID, why)
		},
		RefusedFrom: func(from netip.Addr, why error) {
			if caller, ok := pods.At(ctx, from); ok {
				out.refused("AnswerRequest", caller.Namespace, caller.Pod, caller.UID, fmt.Errorf("a request from this pod's address: %w", why))
			}
		},
		Peers: pages.peers, Log: log, Registerer: ctrlmetrics.Registry,
	})
	if err != nil {
		return nil, err
	}
	pages.peers.Handle("GET "+issuer.DebugPath, out.issuer.Debug())
	c.ready.add("identity", func() (string, error) { return out.authority.Note(), out.authority.Ready() })
	return out, c.mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(c.opts.identityPort)))
		if err != nil {
			return fmt.Errorf("identity server: %w", err)
		}
		return out.issuer.Serve(ctx, l)
	}))
}

// identityLifetimes returns the lifetimes of the mesh's CA. A replaced root is forgotten when the last certificate that
// it signed has expired.
func identityLifetimes(mesh *config.Mesh) rotation.Lifetimes {
	i := mesh.Identity
	return rotation.Lifetimes{
		CA:         ca.Options{CommonName: "mizzen CA of " + mesh.TrustDomain},
		CALifetime: i.CALifetime.Duration, LeafLifetime: i.CertificateLifetime.Duration, Settle: i.CASettle.Duration,
		Forget: i.CertificateLifetime.Duration + i.CASettle.Duration,
	}
}

// servingLeaf returns the template of the certificate by which sidecars recognize the control plane.
func servingLeaf(o *options, mesh *config.Mesh) (ca.Leaf, error) {
	id, err := spiffe.Of(mesh.TrustDomain, o.namespace, o.serviceAccount)
	if err != nil {
		return ca.Leaf{}, err
	}
	base := o.webhookService + "." + o.namespace + ".svc"
	leaf := authority.ServingLeaf(id, base, base+"."+mesh.ClusterDomain)
	host, _, err := net.SplitHostPort(mesh.ControlPlaneAddress)
	if err != nil {
		return ca.Leaf{}, errors.New("controlPlaneAddress: " + err.Error())
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPs = []net.IP{ip}
	} else if host != base && host != base+"."+mesh.ClusterDomain {
		leaf.DNSNames = append(leaf.DNSNames, host)
	}
	leaf.Lifetime = mesh.Identity.CertificateLifetime.Duration
	return leaf, nil
}

func tokenReviews(restConfig *rest.Config, httpClient *http.Client) (*identitykube.Tokens, error) {
	c := rest.CopyConfig(restConfig)
	c.QPS, c.Burst = reviewsPerSecond, reviewsAtOnce
	clients, err := kubernetes.NewForConfigAndClient(c, httpClient)
	if err != nil {
		return nil, err
	}
	return &identitykube.Tokens{Client: clients.AuthenticationV1().TokenReviews()}, nil
}

// refusals bounds the events that a pod can cause. The recorder merges events that differ only in their note, so each
// action has its own event.
func refusals(recorder events.EventRecorder) func(action, namespace, pod, uid string, why error) {
	limit := rate.NewLimiter(1, 20)
	return func(action, namespace, name, uid string, why error) {
		if !limit.Allow() {
			return
		}
		// The recorder treats an event with another note as a repetition, unless it regards another object.
		pod := &corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: name, UID: types.UID(uid), FieldPath: fmt.Sprintf("%.128s", why.Error()),
		}
		recorder.Eventf(pod, nil, corev1.EventTypeWarning, "IdentityRefused", action, "%s", why.Error())
	}
}

// askAgents collects the reports of all replicas, and the bundles of starting pods.
func askAgents(ctx context.Context, own *issuer.Server, others *replicas.Replicas, pods *identitykube.Pods) authority.Agents {
	ctx, cancel := context.WithTimeout(ctx, askReplicas)
	defer cancel()
	reports, silent := replicas.Ask[authority.Report](ctx, others, issuer.DebugPath, nil)
	starting, err := pods.Starting(ctx)
	if err != nil {
		silent++ // an unknown state is no reason to proceed
	}
	return authority.Agents{Reports: append(reports, own.Report()), Silent: silent, Starting: starting}
}
