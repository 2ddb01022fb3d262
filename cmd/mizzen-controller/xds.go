package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/leader"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/replicas"
	"github.com/mizzen-mesh/mizzen/xds"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/peers"
	ads "github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// drain is the time over which proxies are sent to other replicas when this one ends; less than the
// manager's GracefulShutdownTimeout.
const drain = 5 * time.Second

// Connections to the ADS port, of all clients and of one address: a pod needs one, but a network may give all
// pods of a node the node's address.
const (
	connections           = 20_000
	connectionsPerAddress = 1000
)

type xdsOptions struct {
	Mesh   *config.Mesh
	Port   int
	Leader *leader.Elector
	Source *kube.Source
	// Replicas are the other ones.
	Replicas *replicas.Replicas
	// Identity is nil if sidecars have none.
	Identity *identity
	// Ready registers a part of the process's readiness.
	Ready func(name string, check func() (note string, err error))
}

// setupXDS adds the mesh's translation and its ADS server to the manager; every replica runs both.
// The handler serves the /debug/ pages.
func setupXDS(mgr ctrl.Manager, o xdsOptions) (debug http.Handler, err error) {
	log := mgr.GetLogger().WithName("xds")
	source := o.Source
	reporter := kube.NewReporter(log, mgr.GetEventRecorder("mizzen-controller"), o.Leader.IsLeader, ctrlmetrics.Registry)
	o.Leader.OnLead(reporter.Lead)
	statuses := status.New(status.Options{
		Source: source, Client: mgr.GetClient(), Log: log.WithName("status"), Registerer: ctrlmetrics.Registry,
	})
	store := ads.NewStore()
	controller := xds.NewController(xds.Options{
		Source: source, Store: store, Config: o.Mesh, Log: log, Report: reporter.Report, Statuses: statuses, Registerer: ctrlmetrics.Registry,
	})
	o.Leader.OnLead(func(ctx context.Context) {
		select {
		case <-controller.Ready(): // only then is it known what the statuses shall say
			statuses.Lead(ctx)
		case <-ctx.Done():
		}
	})
	o.Ready("xds", func() (string, error) {
		select {
		case <-controller.Ready():
			return "", nil
		default:
			return "", errors.New("the cluster is not read yet")
		}
	})
	options := ads.Options{
		Store: store, Log: log, Registerer: ctrlmetrics.Registry, Drain: drain,
		Peers: &peers.Peers{Replicas: o.Replicas},
		Ahead: ads.Ahead{WholeMesh: int(*o.Mesh.OnDemand.WholeMesh), Namespace: int(*o.Mesh.OnDemand.Namespace)},
	}
	if o.Identity != nil {
		options.Classes = true
		options.TLS, options.Identify = o.Identity.authority.TLS(true), o.Identity.authority.Identify
		options.Refused = func(id node.Identity, why error) {
			o.Identity.refused("ServeConfiguration", id.Namespace, id.Pod, id.UID, fmt.Errorf("ADS stream: %w", why))
		}
	}
	server := ads.New(options)
	serve := func(ctx context.Context) error {
		select {
		case <-controller.Ready(): // a proxy must not take what is not read yet for gone
		case <-ctx.Done():
			return nil
		}
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(o.Port)))
		if err != nil {
			return fmt.Errorf("xDS server: %w", err)
		}
		return server.Serve(ctx, &netlimit.Listener{Listener: l, All: connections, PerAddress: connectionsPerAddress})
	}
	for _, run := range []manager.RunnableFunc{source.Run, controller.Run, serve} {
		if err := mgr.Add(run); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/", server.Debug())
	mux.Handle("GET /debug/problems", reporter)
	if o.Identity != nil {
		mux.Handle("GET "+issuer.DebugPath, o.Identity.issuer.Debug())
	}
	return mux, nil
}

// listReplicas lists the HTTP addresses of the other replicas that are ready.
func listReplicas(source *kube.Source, o *options) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		slices, err := source.EndpointSlices(ctx, mesh.Key{Namespace: o.namespace, Name: o.webhookService})
		if err != nil {
			return nil, err
		}
		var out []string
		for _, slice := range slices {
			for _, ep := range slice.Endpoints {
				ready := ep.Conditions.Ready == nil || *ep.Conditions.Ready
				if ready && (ep.TargetRef == nil || ep.TargetRef.Name != o.podName) && len(ep.Addresses) > 0 {
					out = append(out, net.JoinHostPort(ep.Addresses[0], strconv.Itoa(o.httpPort)))
				}
			}
		}
		return out, nil
	}
}
