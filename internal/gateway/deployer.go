package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// Waits for what no event tells of.
const (
	leftoverWait = 2 * time.Second
	notOursWait  = 30 * time.Second
	bundleWait   = time.Second
)

// Options of a Deployer.
type Options struct {
	Config *config.Mesh
	// Client reads from Cache, which is made with kubecache.Options, and writes to the API server. Live reads from the API
	// server.
	Client client.Client
	Live   client.Reader
	Cache  cache.Cache
	// TrustBundle returns the mesh's roots in PEM, empty while there are none, and a channel that is closed when there are
	// others. It is nil in a mesh without identities.
	TrustBundle func() (bundle string, replaced <-chan struct{})
	// Ports returns the ports of a Gateway, with those of its ListenerSets, and false as long as they are not known. Check tells the
	// Deployer of a change.
	Ports func(gateway types.NamespacedName) ([]mesh.GatewayPort, bool)
	// ClassOwner returns the cluster-wide object of the installation with which the GatewayClass goes. Optional.
	ClassOwner func(context.Context) (*metav1.OwnerReference, error)
	// Events takes a warning for each new problem: kube.Events.
	Events status.Events
	Log    logr.Logger
}

// Deployer keeps the objects of all Gateways as they should be while Lead runs.
type Deployer struct {
	opts    Options
	install Install

	mu       sync.Mutex
	problems map[types.NamespacedName]error
	queue    workqueue.TypedRateLimitingInterface[reconcile.Request] // nil while another replica leads
}

// New returns a Deployer.
func New(o Options) (*Deployer, error) {
	install, err := NewInstall(o.Config)
	return &Deployer{opts: o, install: install, problems: map[types.NamespacedName]error{}}, err
}

// Problem returns why the objects of a Gateway are not as they should be, or nil. Only the leader knows it.
func (d *Deployer) Problem(gateway types.NamespacedName) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.problems[gateway]
}

// Check looks at a Gateway again, because its ports have changed.
func (d *Deployer) Check(gateway types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue != nil {
		d.queue.Add(reconcile.Request{NamespacedName: gateway})
	}
}

// Reconcile brings the objects of one Gateway up to date. A mistake of the user waits for the user; an error of the API server
// is tried again.
func (d *Deployer) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	gateway := &gatewayv1.Gateway{}
	err := d.opts.Client.Get(ctx, req.NamespacedName, gateway)
	if apierrors.IsNotFound(err) || err == nil && gateway.DeletionTimestamp != nil { // garbage collection deletes what it owns
		d.settle(req.NamespacedName, nil)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	err = d.deploy(ctx, gateway)
	var mistake userError
	switch {
	case errors.Is(err, errNoBundle):
		return reconcile.Result{RequeueAfter: bundleWait}, nil
	case errors.Is(err, errLeftover):
		return reconcile.Result{RequeueAfter: leftoverWait}, nil
	case apierrors.IsConflict(err):
		return reconcile.Result{}, err
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return reconcile.Result{}, nil
	}
	if d.settle(req.NamespacedName, err) {
		d.warn(gateway, err)
	}
	switch {
	case errors.As(err, &mistake):
		return reconcile.Result{}, nil
	case errors.As(err, &notOurs{}):
		return reconcile.Result{RequeueAfter: notOursWait}, nil
	}
	return reconcile.Result{}, err
}

// settle remembers the outcome, and reports whether it is a new problem.
func (d *Deployer) settle(gateway types.NamespacedName, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.problems[gateway]
	if err == nil {
		delete(d.problems, gateway)
		return false
	}
	d.problems[gateway] = err
	return before == nil || before.Error() != err.Error()
}

func (d *Deployer) warn(gateway *gatewayv1.Gateway, err error) {
	d.opts.Log.Info("cannot deploy a Gateway", "namespace", gateway.Namespace, "gateway", gateway.Name, "problem", err.Error())
	object := corev1.ObjectReference{
		APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Namespace: gateway.Namespace, Name: gateway.Name, UID: gateway.UID,
	}
	d.opts.Events.Warn(object, "GatewayNotDeployed", "DeployGateway", "spec", err.Error(), err.Error())
}

// userError is a mistake in objects of the user. What is there stays as it is.
type userError struct{ error }

var errNoBundle = errors.New("the mesh has no CA yet")

// deploy applies a Gateway's objects and deletes those that it no longer needs.
func (d *Deployer) deploy(ctx context.Context, gateway *gatewayv1.Gateway) error {
	class := &gatewayv1.GatewayClass{}
	err := d.opts.Client.Get(ctx, types.NamespacedName{Name: string(gateway.Spec.GatewayClassName)}, class)
	if apierrors.IsNotFound(err) {
		return nil // it may come back
	}
	if err != nil {
		return err
	}
	if class.Spec.ControllerName != status.ControllerName {
		return d.prune(ctx, gateway, nil)
	}
	p, err := d.read(ctx, class, gateway)
	if err != nil {
		return err
	}
	if _, err := mesh.GatewayAddresses(gateway); err != nil {
		return userError{err}
	}
	ports, ok := d.opts.Ports(client.ObjectKeyFromObject(gateway))
	if !ok {
		return nil // Check comes when they are known
	}
	install := d.install
	if d.opts.TrustBundle != nil {
		if install.TrustBundle, _ = d.opts.TrustBundle(); install.TrustBundle == "" {
			return errNoBundle
		}
	}
	objects := Render(gateway, ports, p, install)
	var errs []error
	for _, object := range objects {
		if err := d.apply(ctx, gateway, object, p); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // what is there may still be needed
	}
	return d.prune(ctx, gateway, objects)
}

// read returns the parameters of a Gateway.
func (d *Deployer) read(ctx context.Context, class *gatewayv1.GatewayClass, gateway *gatewayv1.Gateway) (Parameters, error) {
	find, failed := d.configMaps(ctx)
	p, err := config.ReadParameters(d.opts.Config.Gateways.Defaults, class, gateway, find)
	if *failed != nil {
		return p, *failed
	}
	if err != nil {
		return p, userError{err}
	}
	return p, nil
}

// configMaps returns ConfigMaps from the cache, and why one could not be read.
func (d *Deployer) configMaps(ctx context.Context) (config.FindConfigMap, *error) {
	var failed error
	return func(namespace, name string) *corev1.ConfigMap {
		object := &corev1.ConfigMap{}
		err := d.opts.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object)
		if err == nil {
			return object
		}
		if !apierrors.IsNotFound(err) {
			failed = fmt.Errorf("ConfigMap %s/%s: %w", namespace, name, err)
		}
		return nil
	}, &failed
}
