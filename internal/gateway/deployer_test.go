package gateway_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/gateway"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

var key = client.ObjectKey{Namespace: "shop", Name: "web"}

// cluster is a Deployer with a cluster that has a class and a Gateway of it.
type cluster struct {
	*gateway.Deployer
	client.Client
	*testing.T
	events []string
	// refuse is the error for an applied object, by kind.
	refuse map[string]error
	bundle string
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	c := &cluster{T: t, refuse: map[string]error{}, bundle: "roots"}
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "mizzen.dev/controller"}}
	scheme := kubescheme.New()
	// The fake client would add them at the first use, while others read the scheme.
	crds := kube.CRDMetadata().GroupVersionKind()
	scheme.AddKnownTypeWithName(crds, &metav1.PartialObjectMetadata{})
	scheme.AddKnownTypeWithName(crds.GroupVersion().WithKind(crds.Kind+"List"), &metav1.PartialObjectMetadataList{})
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind := range scheme.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if kind.Kind == "GatewayClass" || kind.Kind == "Node" {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(kind, scope)
	}
	mapper.Add(crdKind, meta.RESTScopeRoot)
	c.Client = fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).WithObjects(class, newGateway()).WithObjects(objects...).
		WithStatusSubresource(&gatewayv1.GatewayClass{}).WithReturnManagedFields().
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: func(ctx context.Context, inner client.WithWatch, object runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				if err := c.refuse[object.(interface{ GetKind() string }).GetKind()]; err != nil {
					return err
				}
				return inner.Apply(ctx, object, opts...)
			},
		}).Build()
	cfg := config.Default()
	cfg.Sidecar.Image = "example.com/proxy:1"
	var err error
	c.Deployer, err = gateway.New(gateway.Options{
		Config: cfg, Client: c.Client, Live: c.Client, Ports: c.ports, Events: c, Log: logr.Discard(),
		TrustBundle: func() (string, <-chan struct{}) { return c.bundle, nil },
		ClassOwner: func(context.Context) (*metav1.OwnerReference, error) {
			return &metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Installation", Name: "mizzen", UID: "installed"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ports returns those of a Gateway's own listeners.
func (c *cluster) ports(name client.ObjectKey) ([]mesh.GatewayPort, bool) {
	g := &gatewayv1.Gateway{}
	err := c.Get(context.Background(), name, g)
	return mesh.GatewayPorts(g.Spec.Listeners), err == nil
}

func newGateway() *gatewayv1.Gateway {
	return &gatewayv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "1"},
		Spec: gatewayv1.GatewaySpec{
			GatewayClassName: "mizzen", Listeners: []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType}},
		},
	}
}

// Warn takes events.
func (c *cluster) Warn(_ corev1.ObjectReference, reason, _, _, _, note string) {
	c.events = append(c.events, reason+": "+note)
}

// reconcile looks at the Gateway once. It returns when to look again.
func (c *cluster) reconcile() (reconcile.Result, error) {
	return c.Reconcile(c.Context(), reconcile.Request{NamespacedName: key})
}

// settle looks at the Gateway and fails the test if that fails.
func (c *cluster) settle() {
	c.Helper()
	if _, err := c.reconcile(); err != nil {
		c.Fatal(err)
	}
}

// change changes an object of the cluster.
func change[T client.Object](c *cluster, name string, object T, how func(T)) {
	c.Helper()
	c.get(name, object)
	how(object)
	if err := c.Update(c.Context(), object); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) get(name string, object client.Object) {
	c.Helper()
	if err := c.Get(c.Context(), client.ObjectKey{Namespace: key.Namespace, Name: name}, object); err != nil {
		c.Fatal(err)
	}
}

// owned returns the kinds of the objects with a name, sorted.
func (c *cluster) owned(name string) []string {
	c.Helper()
	found := map[string]bool{}
	for kind, object := range map[string]client.Object{
		"ConfigMap": &corev1.ConfigMap{}, "ServiceAccount": &corev1.ServiceAccount{}, "Service": &corev1.Service{}, "Deployment": &appsv1.Deployment{},
		"PodDisruptionBudget": &policyv1.PodDisruptionBudget{}, "HorizontalPodAutoscaler": &autoscalingv2.HorizontalPodAutoscaler{},
	} {
		err := c.Get(c.Context(), client.ObjectKey{Namespace: key.Namespace, Name: name}, object)
		if err == nil {
			found[kind] = true
		} else if !apierrors.IsNotFound(err) {
			c.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (c *cluster) wantOwned(name string, want ...string) {
	c.Helper()
	if got := c.owned(name); !slices.Equal(got, want) {
		c.Errorf("%s has %q, want %q", name, got, want)
	}
}

var all = []string{"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}

func TestDriftIsPutRight(t *testing.T) {
	c := newCluster(t)
	c.settle()
	c.wantOwned("web-mizzen", all...)
	change(c, "web-mizzen", &corev1.Service{}, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.IntVal = 1; s.Labels = nil })
	change(c, "web-mizzen", &appsv1.Deployment{}, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(7)) })
	change(c, "web-mizzen", &corev1.ServiceAccount{}, func(a *corev1.ServiceAccount) { a.Annotations = map[string]string{"example.com/role": "x"} })
	c.settle()
	service, deployment, account := &corev1.Service{}, &appsv1.Deployment{}, &corev1.ServiceAccount{}
	c.get("web-mizzen", service)
	c.get("web-mizzen", deployment)
	c.get("web-mizzen", account)
	if service.Spec.Ports[0].TargetPort.IntVal != 64592 || len(service.Labels) == 0 || *deployment.Spec.Replicas != 2 {
		t.Errorf("ports %v, labels %v, %d replicas", service.Spec.Ports, service.Labels, *deployment.Spec.Replicas)
	}
	if account.Annotations["example.com/role"] != "x" {
		t.Error("the field of another field manager is gone")
	}
}

func TestWhatIsNotSetAnyMoreGoes(t *testing.T) {
	c := newCluster(t)
	change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) {
		g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{Labels: map[gatewayv1.LabelKey]gatewayv1.LabelValue{"team": "shop"}}
		g.Spec.Listeners = append(g.Spec.Listeners, gatewayv1.Listener{Name: "more", Port: 8080, Protocol: gatewayv1.HTTPProtocolType})
	})
	c.settle()
	service := &corev1.Service{}
	c.get("web-mizzen", service)
	if service.Labels["team"] != "shop" || len(service.Spec.Ports) != 2 {
		t.Errorf("labels %v, ports %v", service.Labels, service.Spec.Ports)
	}
	change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) { g.Spec.Infrastructure, g.Spec.Listeners = nil, g.Spec.Listeners[:1] })
	c.settle()
	service = &corev1.Service{}
	c.get("web-mizzen", service)
	if _, ok := service.Labels["team"]; ok || len(service.Spec.Ports) != 1 {
		t.Errorf("labels %v, ports %v", service.Labels, service.Spec.Ports)
	}
	change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) { g.Spec.Listeners = nil })
	c.settle()
	c.wantOwned("web-mizzen", "ConfigMap", "Deployment", "PodDisruptionBudget", "ServiceAccount")
}

func TestAnotherClass(t *testing.T) {
	class := func(name, controller string) client.Object {
		return &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: gatewayv1.GatewayClassSpec{ControllerName: gatewayv1.GatewayController(controller)}}
	}
	to := func(name gatewayv1.ObjectName) func(*gatewayv1.Gateway) {
		return func(g *gatewayv1.Gateway) { g.Spec.GatewayClassName = name }
	}
	c := newCluster(t, class("second", "mizzen.dev/controller"), class("foreign", "example.com/other"))
	c.settle()
	change(c, "web", &gatewayv1.Gateway{}, to("second"))
	c.settle()
	c.wantOwned("web-mizzen")
	c.wantOwned("web-second", all...)
	change(c, "web", &gatewayv1.Gateway{}, to("missing"))
	c.settle()
	c.wantOwned("web-second", all...)
	change(c, "web", &gatewayv1.Gateway{}, to("foreign"))
	c.settle()
	c.wantOwned("web-second")
	c.wantOwned("web-foreign")
}

func TestObjectsOfOthersAreLeftAlone(t *testing.T) {
	foreign := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-mizzen"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "x"}}}
	labelled := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "mine", Labels: map[string]string{
		"app.kubernetes.io/managed-by": "mizzen-gateway", "gateway.networking.k8s.io/gateway-name": "web",
	}}}
	c := newCluster(t, foreign, labelled)
	for range 2 {
		result, err := c.reconcile()
		if err != nil || result.RequeueAfter == 0 {
			t.Errorf("%+v, %v", result, err)
		}
	}
	service := &corev1.Service{}
	c.get("web-mizzen", service)
	c.get("mine", &policyv1.PodDisruptionBudget{})
	if service.Spec.Selector["app"] != "x" || len(service.Labels) > 0 {
		t.Errorf("changed: %+v", service)
	}
	c.wantOwned("web-mizzen", all...)
	want := "Service shop/web-mizzen exists and belongs to something else"
	if problem := c.Problem(key); problem == nil || !strings.Contains(problem.Error(), want) || len(c.events) != 1 {
		t.Errorf("problem %v, events %q", problem, c.events)
	}
	if err := c.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if problem := c.Problem(key); problem != nil {
		t.Error(problem)
	}
}

func TestObjectOfAnEarlierGateway(t *testing.T) {
	old := newGateway()
	old.UID = "0"
	c := newCluster(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-mizzen", OwnerReferences: []metav1.OwnerReference{
		*metav1.NewControllerRef(old, schema.GroupVersion(gatewayv1.GroupVersion).WithKind("Gateway")),
	}}})
	if result, err := c.reconcile(); err != nil || result.RequeueAfter == 0 || c.Problem(key) != nil || len(c.events) > 0 {
		t.Errorf("%+v, %v, %v, %q", result, err, c.Problem(key), c.events)
	}
}

func TestMistakesKeepWhatIsThere(t *testing.T) {
	for name, tt := range map[string]struct {
		mistake func(*gatewayv1.Gateway)
		want    string
	}{
		"parameters": {func(g *gatewayv1.Gateway) {
			g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: "none"}}
		}, `Gateway shop/web: spec.infrastructure.parametersRef.name: "none": want a ConfigMap of namespace shop`},
		"address": {func(g *gatewayv1.Gateway) {
			g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: new(gatewayv1.HostnameAddressType), Value: "a.example"}}
		}, `spec.addresses[0].type: "Hostname": want IPAddress`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.settle()
			before := &corev1.Service{}
			c.get("web-mizzen", before)
			change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) { tt.mistake(g); g.Spec.Listeners = nil })
			c.settle()
			c.settle()
			now := &corev1.Service{}
			c.get("web-mizzen", now)
			if before.ResourceVersion != now.ResourceVersion {
				t.Error("the Service was changed")
			}
			if problem := c.Problem(key); problem == nil || !strings.Contains(problem.Error(), tt.want) || len(c.events) != 1 {
				t.Errorf("problem %v, events %q", problem, c.events)
			}
		})
	}
}

func TestRefusalsOfTheAPIServer(t *testing.T) {
	c := newCluster(t)
	c.refuse["Service"] = apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web-mizzen", errors.New("exceeded quota"))
	for range 2 {
		if _, err := c.reconcile(); err == nil {
			t.Error("no error: it is not tried again")
		}
	}
	c.wantOwned("web-mizzen", "ConfigMap", "Deployment", "PodDisruptionBudget", "ServiceAccount")
	if len(c.events) != 1 || !strings.Contains(c.events[0], "GatewayNotDeployed: Service shop/web-mizzen: ") || !strings.Contains(c.events[0], "exceeded quota") {
		t.Errorf("events %q", c.events)
	}
	c.refuse = nil
	c.settle()
	c.wantOwned("web-mizzen", all...)
	if problem := c.Problem(key); problem != nil {
		t.Error(problem)
	}
}

func TestRoots(t *testing.T) {
	c := newCluster(t)
	c.bundle = ""
	if result, err := c.reconcile(); err != nil || result.RequeueAfter == 0 || len(c.owned("web-mizzen")) > 0 {
		t.Errorf("without a CA: %+v, %v, %q", result, err, c.owned("web-mizzen"))
	}
	c.bundle = "first"
	c.settle()
	before, now, roots := &appsv1.Deployment{}, &appsv1.Deployment{}, &corev1.ConfigMap{}
	c.get("web-mizzen", before)
	c.bundle = "second"
	c.settle()
	c.get("web-mizzen", now)
	c.get("web-mizzen", roots)
	if diff := cmp.Diff(before.Spec, now.Spec); diff != "" || roots.Data["roots.pem"] != "second" {
		t.Errorf("roots %v, Deployment -before +now\n%s", roots.Data, diff)
	}
}

// With a Service that stands already there is none of the Gateway's own. That one stays as it is.
func TestNamedService(t *testing.T) {
	parameters := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Data: map[string]string{"mizzen.yaml": "serviceName: lb"}}
	c := newCluster(t, parameters, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "lb"}})
	c.settle()
	c.wantOwned("web-mizzen", all...)
	change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) {
		g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: "p"}}
	})
	c.settle()
	c.wantOwned("web-mizzen", "ConfigMap", "Deployment", "PodDisruptionBudget", "ServiceAccount")
	service := &corev1.Service{}
	if c.get("lb", service); len(service.Labels)+len(service.OwnerReferences)+len(service.Spec.Ports) > 0 {
		t.Errorf("the Service was changed: %v", service)
	}
	change(c, "p", &corev1.ConfigMap{}, func(p *corev1.ConfigMap) { p.Data["mizzen.yaml"] = "serviceName: web-mizzen" })
	c.settle()
	c.wantOwned("web-mizzen", all...)
}

// The replicas belong to the autoscaler as long as there is one.
func TestAutoscaling(t *testing.T) {
	parameters := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Data: map[string]string{"mizzen.yaml": "autoscaling: {minReplicas: 3, maxReplicas: 9}"}}
	on := func(g *gatewayv1.Gateway) {
		g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: "p"}}
	}
	replicas := func(c *cluster, want int32) {
		c.Helper()
		deployment := &appsv1.Deployment{}
		c.get("web-mizzen", deployment)
		if got := deployment.Spec.Replicas; got == nil || *got != want {
			c.Errorf("replicas %v, want %d", got, want)
		}
	}
	scale := func(c *cluster, to int32) {
		change(c, "web-mizzen", &appsv1.Deployment{}, func(d *appsv1.Deployment) { d.Spec.Replicas = &to })
	}
	t.Run("from the beginning", func(t *testing.T) {
		c := newCluster(t, parameters.DeepCopy())
		change(c, "web", &gatewayv1.Gateway{}, on)
		c.settle()
		replicas(c, 3)
		c.settle()
		replicas(c, 3)
		scale(c, 6)
		c.settle()
		replicas(c, 6)
		c.wantOwned("web-mizzen", "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "ServiceAccount")
	})
	t.Run("later, and not any more", func(t *testing.T) {
		c := newCluster(t, parameters.DeepCopy())
		c.settle()
		replicas(c, 2)
		change(c, "web", &gatewayv1.Gateway{}, on)
		c.settle()
		replicas(c, 2)
		scale(c, 8)
		c.settle()
		replicas(c, 8)
		change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) { g.Spec.Infrastructure = nil })
		c.settle()
		replicas(c, 2)
		c.wantOwned("web-mizzen", all...)
	})
}

func TestDeletedGatewayIsLeftToGarbageCollection(t *testing.T) {
	c := newCluster(t)
	change(c, "web", &gatewayv1.Gateway{}, func(g *gatewayv1.Gateway) { g.Finalizers = []string{"example.com/x"} })
	if err := c.Delete(t.Context(), newGateway()); err != nil {
		t.Fatal(err)
	}
	c.settle()
	c.wantOwned("web-mizzen")
}

func TestGatewayClass(t *testing.T) {
	crd := func(name, version string) client.Object {
		o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"gateway.networking.k8s.io/bundle-version": version}}}
		o.SetGroupVersionKind(crdKind)
		return o
	}
	c := newCluster(t, crd("gateways.gateway.networking.k8s.io", "v1.6.3"), crd("things.example.com", "v0.1"))
	look := func(name string) *gatewayv1.GatewayClass {
		t.Helper()
		if _, err := c.ReconcileClass(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}}); err != nil {
			t.Fatal(err)
		}
		class := &gatewayv1.GatewayClass{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, class); err != nil {
			t.Fatal(err)
		}
		return class
	}
	want := func(class *gatewayv1.GatewayClass, kind, reason string, status metav1.ConditionStatus) {
		t.Helper()
		got := meta.FindStatusCondition(class.Status.Conditions, kind)
		if got == nil || got.Reason != reason || got.Status != status || got.Message == "" {
			t.Errorf("%s is %+v, want %s, %s", kind, got, status, reason)
		}
	}
	class := look("mizzen")
	want(class, "Accepted", "Accepted", metav1.ConditionTrue)
	want(class, "SupportedVersion", "SupportedVersion", metav1.ConditionTrue)
	if len(class.Status.SupportedFeatures) != len(gateway.Features()) || class.Spec.Description != nil {
		t.Errorf("features %v, description %v", class.Status.SupportedFeatures, class.Spec.Description)
	}
	if again := look("mizzen"); again.ResourceVersion != class.ResourceVersion {
		t.Error("a status that is right was written again")
	}
	if err := c.Create(t.Context(), crd("tcproutes.gateway.networking.k8s.io", "v1.5.0")); err != nil {
		t.Fatal(err)
	}
	class.Spec.ParametersRef = &gatewayv1.ParametersReference{Kind: "ConfigMap", Name: "p"}
	if err := c.Update(t.Context(), class); err != nil {
		t.Fatal(err)
	}
	class = look("mizzen")
	want(class, "Accepted", "InvalidParameters", metav1.ConditionFalse)
	want(class, "SupportedVersion", "UnsupportedVersion", metav1.ConditionFalse)

	if err := c.Delete(t.Context(), class); err != nil {
		t.Fatal(err)
	}
	made := look("mizzen")
	if made.Spec.ControllerName != "mizzen.dev/controller" || len(made.OwnerReferences) != 1 || made.OwnerReferences[0].UID != "installed" {
		t.Errorf("made %+v", made)
	}
}
