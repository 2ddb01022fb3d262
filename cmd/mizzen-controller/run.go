package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/kubecache"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/internal/leader"
	"github.com/mizzen-mesh/mizzen/internal/replicas"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/version"
	"github.com/mizzen-mesh/mizzen/internal/webhookcert"
	"github.com/mizzen-mesh/mizzen/webhook"
	"github.com/mizzen-mesh/mizzen/xds/kube"
)

// controller is the process: its parts, and the order in which they stop.
type controller struct {
	opts *options
	log  logr.Logger
	mgr  ctrl.Manager
	// leader does what only one replica of the mesh may do, and own what only one of this control plane may do: it is another elector
	// in a revision, which leaves the former to the main control plane.
	leader  *leader.Elector
	own     *leader.Elector
	api     *apiHealth
	ready   *readiness
	webhook *server
	status  *server
}

func run(ctx context.Context, o *options, mesh *config.Mesh) error {
	log := newLogger(os.Stderr, o.logLevel)
	log.Info("mizzen-controller starts", "version", version.Version, "namespace", o.namespace)
	c, err := newController(ctx, o, mesh, log)
	if err != nil {
		return err
	}
	return c.run(ctx)
}

func newController(ctx context.Context, o *options, mesh *config.Mesh, log logr.Logger) (*controller, error) {
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("client configuration of Kubernetes: %w", err)
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Logger: log,
		// Within the grace period that the chart sets.
		GracefulShutdownTimeout: new(10 * time.Second),
		Metrics:                 metricsserver.Options{BindAddress: "0"}, // served by our own server
		Cache:                   kubecache.Options(),
		Scheme:                  kubescheme.New(),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the Kubernetes API server: %w", err)
	}
	clients, err := kubernetes.NewForConfigAndClient(restConfig, mgr.GetHTTPClient())
	if err != nil {
		return nil, err
	}
	if mesh.Revision != "" {
		if err := checkRevision(ctx, mgr.GetAPIReader(), o.namespace, mesh); err != nil {
			return nil, err
		}
	}
	c := &controller{opts: o, log: log, mgr: mgr, ready: newReadiness(log)}
	c.own = leader.Alone()
	if o.leaderElect {
		c.own = leader.New(leader.Options{
			Client: clients.CoordinationV1(), Namespace: o.namespace, Name: config.OfRevision(config.ControllerService, mesh.Revision),
			Identity: o.podName, Owner: c.owner, Log: log.WithName("leader"),
		})
	}
	if c.leader = c.own; mesh.Revision != "" {
		c.leader = leader.Never()
	}
	if c.api, err = newAPIHealth(clients.Discovery().RESTClient(), ctrlmetrics.Registry, log); err != nil {
		return nil, err
	}
	c.ready.add("kubernetes-api", c.api.note)
	source, err := kube.NewSource(ctx, mgr.GetCache(), mgr.GetRESTMapper(), kube.WatchFor(mesh), log.WithName("xds"))
	if err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	pages := &statusPages{ready: c.ready, debug: debugPages(), peers: http.NewServeMux()}
	x := xdsOptions{Mesh: mesh, Port: o.xdsPort, Leader: c.leader, Ready: c.ready.add, Source: source, Pages: pages}
	if *mesh.Identity.Enabled {
		if x.Identity, err = setupIdentity(ctx, c, mesh, restConfig, pages, listReplicas(mgr.GetCache(), o, o.identityPort)); err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		x.Replicas = x.Identity.replicas
	} else {
		x.Replicas = replicas.New(replicas.Options{Log: log, List: listReplicas(mgr.GetCache(), o, o.httpPort)})
		pages.isReplica = isReplica(mgr.GetCache(), o)
	}
	if err := c.setupWebhook(ctx, mesh, x.Identity); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if x.GatewayPorts, err = c.setupGateways(ctx, mesh, x.Identity); err != nil {
		return nil, fmt.Errorf("gateways: %w", err)
	}
	if err := setupXDS(ctx, mgr, x); err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	c.status = newServer("status", o.httpPort, pages.handler(), nil, log)
	return c, nil
}

// caOptions are those of each CA that is kept in a Secret.
func (c *controller) caOptions(secret string, l rotation.Lifetimes, leader *leader.Elector, log logr.Logger) casecret.Options {
	return casecret.Options{
		Namespace: c.opts.namespace, SecretName: secret, Lifetimes: l,
		Client: c.mgr.GetClient(), Reader: c.mgr.GetAPIReader(), Owner: c.owner, IsLeader: leader.IsLeader,
		Recorder: c.mgr.GetEventRecorder(casecret.FieldManager), Registerer: ctrlmetrics.Registry, Log: log, Now: time.Now,
	}
}

func (c *controller) setupWebhook(ctx context.Context, mesh *config.Mesh, identity *identity) error {
	cert, err := webhookcert.New(webhookcert.Options{
		Options:       c.caOptions(c.opts.webhookSecret, c.opts.certificates, c.own, c.log.WithName("webhook-certificate")),
		ServiceName:   c.opts.webhookService,
		ConfigName:    c.opts.webhookConfigName,
		ClusterDomain: mesh.ClusterDomain,
	})
	if err != nil {
		return err
	}
	if err := cert.SetupWithManager(c.mgr, c.own.OnLead); err != nil {
		return err
	}
	c.ready.add("webhook-certificate", func() (string, error) { return cert.Note(), cert.Ready() })
	labels, err := namespaceLabels(ctx, c.mgr)
	if err != nil {
		return err
	}
	rules, err := namespaceRules(ctx, c.mgr)
	if err != nil {
		return err
	}
	options := webhook.Options{
		Config:                mesh,
		Version:               version.Version,
		ControlPlaneNamespace: c.opts.namespace,
		NamespaceLabels:       labels,
		Namespace:             rules,
		Recorder:              c.mgr.GetEventRecorder("mizzen-injector"),
		Registerer:            ctrlmetrics.Registry,
		Log:                   c.log.WithName("webhook"),
	}
	if mesh.Revision == "" {
		options.Revision = revisions(c.mgr.GetCache(), c.mgr.GetAPIReader(), c.opts.namespace)
	}
	if identity != nil {
		options.TrustBundle = identity.trustBundle
	}
	handler := webhook.NewHandler(options)
	c.webhook = newServer("webhook", c.opts.webhookPort, webhookHandler(handler, c.ready.shuttingDown.Load),
		&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.GetCertificate}, c.log)
	return nil
}

// owner returns a reference to the webhook's Service, an object of the release with a known name. Garbage collection
// thus removes objects that the control plane created when the release is uninstalled.
func (c *controller) owner(ctx context.Context) (metav1.OwnerReference, error) {
	svc := &corev1.Service{}
	key := types.NamespacedName{Namespace: c.opts.namespace, Name: c.opts.webhookService}
	if err := c.mgr.GetAPIReader().Get(ctx, key, svc); err != nil {
		return metav1.OwnerReference{}, err
	}
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: svc.UID}, nil
}

// run serves until ctx ends or a part fails. It then stops the parts in an order that refuses no caller: report
// unready, keep serving for the shutdown delay, finish admissions, end the streams, and stop the status server last.
func (c *controller) run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 4)
	ended := c.start(ctx, serving, failed)
	var err error
	select {
	case <-ctx.Done():
		c.log.Info("shutting down", "servingFor", c.opts.shutdownDelay.String())
		c.ready.shuttingDown.Store(true)
		select {
		case <-time.After(c.opts.shutdownDelay):
		case err = <-failed:
		}
	case err = <-failed:
		c.ready.shuttingDown.Store(true)
	}
	c.webhook.stop(ctx, c.log)
	stop()
	<-ended
	c.status.stop(ctx, c.log)
	return err
}

// start runs every part. A part that fails sends its error to failed; ended is closed when the manager has ended.
// Leadership ends with ctx, and everything else with serving.
func (c *controller) start(ctx, serving context.Context, failed chan<- error) (ended <-chan struct{}) {
	for _, part := range []func() error{
		c.webhook.run,
		c.status.run,
		func() error { return c.own.Run(ctx) },
	} {
		go func() {
			if err := part(); err != nil {
				failed <- err
			}
		}()
	}
	go c.api.run(serving)
	var synced atomic.Bool
	c.ready.add("caches", func() (string, error) {
		if synced.Load() {
			return "", nil
		}
		return "", errors.New("waiting for the first list of objects")
	})
	go func() { synced.Store(c.mgr.GetCache().WaitForCacheSync(serving)) }()
	end := make(chan struct{})
	go func() {
		defer close(end)
		if err := c.mgr.Start(serving); err != nil {
			failed <- err
		}
	}()
	return end
}
