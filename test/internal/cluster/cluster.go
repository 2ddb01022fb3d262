// Package cluster is what the demo and the end-to-end tests need of a Kubernetes cluster: manifests
// applied, conditions awaited, pods called, Mizzen installed with Helm. It works with any cluster
// that the kubeconfig names and knows nothing of the embedded one but where its kubeconfig lies.
package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster is a connection to a cluster.
type Cluster struct {
	kubernetes.Interface
	Dynamic dynamic.Interface
	// Kubeconfig is the absolute path of the file in use; Root is the checkout's root.
	Kubeconfig, Root string

	config *rest.Config
	mapper meta.RESTMapper
	http   *http.Client
	host   string
}

// ErrNoKubeconfig says that there is no cluster to use.
var ErrNoKubeconfig = errors.New("no cluster: set KUBECONFIG, or make cluster-up for the embedded one")

// Root is the directory of the checkout: the nearest one upwards that holds charts or a go.mod of
// the product.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod in this directory or above it")
		}
		dir = parent
	}
}

// Kubeconfig is $KUBECONFIG if set, else the embedded cluster's; ErrNoKubeconfig without either.
func Kubeconfig(root string) (string, error) {
	if env := os.Getenv("KUBECONFIG"); env != "" {
		if _, err := os.Stat(env); err != nil {
			return "", fmt.Errorf("KUBECONFIG: %w", err)
		}
		return filepath.Abs(env)
	}
	path := filepath.Join(root, ".cluster", "kubeconfig")
	if _, err := os.Stat(path); err != nil {
		return "", ErrNoKubeconfig
	}
	return path, nil
}

// Open connects to the cluster that Kubeconfig finds. It makes no request.
func Open() (*Cluster, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	path, err := Kubeconfig(root)
	if err != nil {
		return nil, err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1 // no client-side limit: tests create many pods, and measure
	cfg.WarningHandler = rest.NoWarnings{}
	return newCluster(cfg, path, root)
}

func newCluster(cfg *rest.Config, path, root string) (*Cluster, error) {
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	host, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	return &Cluster{
		Interface: clients, Dynamic: dyn, Kubeconfig: path, Root: root, config: cfg,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(clients.Discovery())),
		http:   httpClient, host: host.String(),
	}, nil
}

// pollEvery is the pace of conditions that are polled.
const pollEvery = 200 * time.Millisecond
