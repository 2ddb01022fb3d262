package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/leader"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/replicas"
	"github.com/mizzen-mesh/mizzen/xds"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/peers"
	ads "github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// drain is the time over which proxies move to other replicas when this one ends. It is less than the manager's
// GracefulShutdownTimeout.
const drain = 5 * time.Second

// Limits of connections to the ADS port, for all clients and for one address. A pod needs one connection, but a network
// may give all pods of a node the node's address.
const (
	connections           = 20_000
	connectionsPerAddress = 1000
)

type xdsOptions struct {
	Mesh   *config.Mesh
	Port   int
	Leader *leader.Elector
	Source *kube.Source
	// Replicas asks the other replicas; Pages are the pages for replicas and people.
	Replicas *replicas.Replicas
	Pages    *statusPages
	// Identity is nil if sidecars have no identities.
	Identity *identity
	// GatewayPorts takes the ports of Gateways; nil if there are none.
	GatewayPorts func(map[mesh.Key][]mesh.GatewayPort)
	// Ready registers a part of the process's readiness.
	Ready func(name string, check func() (note string, err error))
}

// newEvents returns a writer of events on users' objects, with bounds of its own.
func newEvents(ctx context.Context, mgr ctrl.Manager) *kube.Events {
	return kube.NewEvents(mgr.GetEventRecorder("mizzen-controller"), kube.NamespaceEnding(ctx, mgr.GetCache()))
}

// setupXDS adds the mesh's translation and its ADS server to the manager; every replica runs both.
func setupXDS(ctx context.Context, mgr ctrl.Manager, o xdsOptions) error {
	log := mgr.GetLogger().WithName("xds")
	source := o.Source
	events := newEvents(ctx, mgr)
	reporter := kube.NewReporter(log, events, o.Leader.IsLeader, ctrlmetrics.Registry)
	o.Leader.OnLead(reporter.Lead)
	statuses := status.New(status.Options{
		Source: source, Client: mgr.GetClient(), Events: events, Log: log.WithName("status"), Registerer: ctrlmetrics.Registry,
	})
	store := ads.NewStore()
	controller := xds.NewController(xds.Options{
		Source: source, Store: store, Config: o.Mesh, Log: log, Report: reporter.Report, Statuses: statuses, GatewayPorts: o.GatewayPorts,
		Registerer: ctrlmetrics.Registry,
	})
	o.Leader.OnLead(func(ctx context.Context) {
		select {
		case <-controller.Ready(): // only then are the right statuses known
			statuses.Lead(ctx)
		case <-ctx.Done():
		}
	})
	o.Ready("xds", func() (string, error) {
		select {
		case <-controller.Ready():
			return "", nil
		default:
			return "", errors.New("waiting for the first list of objects")
		}
	})
	options := ads.Options{
		Store: store, Log: log, Registerer: ctrlmetrics.Registry, Drain: drain,
		Peers: &peers.Peers{Replicas: o.Replicas}, Proxies: func(n node.Node, connected bool) {
			reporter.Sidecar(kube.Sidecar{
				Pod: mesh.Key{Namespace: n.Namespace, Name: n.Pod}, UID: n.UID, NodeName: n.NodeName, SocketLoadBalancing: n.SocketLoadBalancing,
			}, connected)
		},
		Preload: ads.PreloadBounds{WholeMesh: int(*o.Mesh.OnDemand.WholeMesh), Namespace: int(*o.Mesh.OnDemand.Namespace)},
	}
	if o.Identity != nil {
		options.Classes = true
		options.TLS, options.Identify = o.Identity.authority.TLS(true), o.Identity.authority.Identify
		options.Refused = func(id node.Identity, why error) {
			o.Identity.refused("ServeConfiguration", id.Namespace, id.Pod, id.UID, fmt.Errorf("ADS stream: %w", why))
		}
	}
	server := ads.New(options)
	served := make(chan struct{})
	serve := func(ctx context.Context) error {
		defer close(served)
		select {
		case <-controller.Ready(): // a proxy must not treat objects that are not read yet as deleted
		case <-ctx.Done():
			return nil
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(o.Port)))
		if err != nil {
			return fmt.Errorf("xDS server: %w", err)
		}
		return server.Serve(ctx, limit(l, "xds", connections, connectionsPerAddress, log))
	}
	for _, run := range []manager.RunnableFunc{until(served, source.Run), until(served, controller.Run), serve} {
		if err := mgr.Add(run); err != nil {
			return err
		}
	}
	o.Pages.debug.Handle("/debug/", server.Debug())
	o.Pages.debug.Handle("GET /debug/problems", reporter)
	o.Pages.peers.Handle("GET "+peers.Path, server.Usage())
	return nil
}

// until runs a source of a server until the server has ended, which is later than ctx. Streams that end one by one
// during drain thus get changes up to their end.
func until(served <-chan struct{}, run manager.RunnableFunc) manager.RunnableFunc {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		go func() {
			select {
			case <-served:
				cancel()
			case <-ctx.Done():
			}
		}()
		return run(ctx)
	}
}
