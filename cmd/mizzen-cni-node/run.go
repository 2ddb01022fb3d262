package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/internal/cni/conflist"
	"github.com/mizzen-mesh/mizzen/internal/cni/install"
	"github.com/mizzen-mesh/mizzen/internal/cni/node"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// removal bounds the cleanup at the end.
const removal = 10 * time.Second

func run(ctx context.Context, o *options) error {
	log := newLogger(o.logLevel)
	log.Info("mizzen-cni-node starts", "version", version.Version, "node", o.node)
	restConfig, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("client configuration of Kubernetes: %w", err)
	}
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return err
	}
	pods, err := node.NewPods(client, o.node)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	count := counters(registry)
	config := &install.Config{
		Dir: o.confDir, Entry: conflist.Entry{Socket: filepath.Join(o.runDir, node.SocketName)}, Log: log,
	}
	var serving atomic.Bool
	failed := make(chan error, 3)
	status := statusServer(o.listen, registry, func() error { return ready(serving.Load(), config) })
	go func() { failed <- status.ListenAndServe() }()
	defer status.Close()

	pods.Start(ctx)
	if err := awaitSync(ctx, pods, failed, log); err != nil || ctx.Err() != nil {
		return err
	}
	// From here on the process answers the plugin. The runtime calls the plugin once its entry exists.
	word := rand.Text()
	listener, err := node.Listen(o.runDir, word)
	if err != nil {
		return fmt.Errorf("--run-dir: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: removal, Handler: (&node.Server{
		Find: pods.Find, Word: word, Captured: count("plugin", "captured"), Failed: count("plugin", "failed"), Log: log,
	}).Handler()}
	go func() { failed <- server.Serve(listener) }()
	if err := install.Binary(o.plugin, o.binDir); err != nil {
		return fmt.Errorf("--plugin, --bin-dir: %w", err)
	}
	serving.Store(true)
	working, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := config.Watch(working); err != nil {
			failed <- fmt.Errorf("--conf-dir: %w", err)
		}
	}()
	repair := node.NewRepair(pods)
	repair.Repaired, repair.Failed, repair.Log = count("repair", "captured"), count("repair", "failed"), log
	recorder, shutdown := newRecorder(working, client, log)
	defer shutdown()
	repair.Recorder = recorder
	go repair.Run(working)

	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	stop()
	<-watched
	return errors.Join(err, leave(ctx, o, config, server, word, log))
}

// leave removes the entry, unless a successor needs it. Without the entry, pods start as if there were no plugin; those
// with a sidecar wait in the sidecar.
func leave(ctx context.Context, o *options, config *install.Config, server *http.Server, word string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	if node.Succeeded(ctx, o.runDir, word) {
		log.Info("another process has taken over the socket")
		return server.Shutdown(ctx)
	}
	err := config.Remove()
	// The runtime may still be calling the plugin.
	return errors.Join(err, server.Shutdown(ctx), node.RemoveSocket(o.runDir))
}

func awaitSync(ctx context.Context, pods *node.Pods, failed <-chan error, log *slog.Logger) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !pods.Synced(); {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
		if time.Since(began) > removal {
			began = time.Now()
			log.Warn("waiting for the API server to list the node's pods")
		}
	}
	return nil
}

func ready(serving bool, config *install.Config) error {
	if !serving {
		return errors.New("the node's pods are not listed yet")
	}
	return config.Err()
}

func statusServer(listen string, registry *prometheus.Registry, ready func() error) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: removal}
}

// counters returns functions that count captured pods by the part that captured them and the result.
func counters(r prometheus.Registerer) (count func(by, result string) func()) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_cni_pods_total",
		Help: "Pods whose traffic was captured, by the part that did it (plugin, or repair if the plugin was not called) and result (captured, failed).",
	}, []string{"by", "result"})
	r.MustRegister(total)
	return func(by, result string) func() { return total.WithLabelValues(by, result).Inc }
}

func newRecorder(ctx context.Context, client kubernetes.Interface, log *slog.Logger) (events.EventRecorder, func()) {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		log.Warn("no events", "error", err)
	}
	return broadcaster.NewRecorder(scheme.Scheme, "mizzen-cni"), broadcaster.Shutdown
}
