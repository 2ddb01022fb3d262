package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/mizzen-mesh/mizzen/internal/cni/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Pods are the pods of one node.
type Pods struct {
	client   kubernetes.Interface
	factory  informers.SharedInformerFactory
	informer cache.SharedIndexInformer
	lister   listers.PodLister
}

// NewPods returns the pods of a node, which it watches once Start is called.
func NewPods(client kubernetes.Interface, node string) (*Pods, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTransform(strip),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}))
	pods := factory.Core().V1().Pods()
	return &Pods{client: client, factory: factory, informer: pods.Informer(), lister: pods.Lister()}, nil
}

// Start starts to watch, until ctx ends.
func (p *Pods) Start(ctx context.Context) { p.factory.Start(ctx.Done()) }

// Synced reports whether the pods have been listed.
func (p *Pods) Synced() bool { return p.informer.HasSynced() }

// Find returns the pod that the runtime names. It returns nil if the API server does not know the pod: it is deleted,
// or a static pod, which has no sidecar. The watch may lag behind the kubelet, so Find asks the API server for a pod
// that it does not have.
func (p *Pods) Find(ctx context.Context, asked api.Pod) (*corev1.Pod, error) {
	pod, err := p.lister.Pods(asked.Namespace).Get(asked.Name)
	if err == nil && (asked.UID == "" || string(pod.UID) == asked.UID) {
		return pod, nil
	}
	pod, err = p.client.CoreV1().Pods(asked.Namespace).Get(ctx, asked.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) || (err == nil && asked.UID != "" && string(pod.UID) != asked.UID):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read pod %s: %w", asked, err)
	}
	return pod, nil
}

// captured returns the pods that the plugin captures and that have not ended.
func (p *Pods) captured() []*corev1.Pod {
	all, err := p.lister.List(labels.Everything())
	if err != nil {
		return nil // the lister of an informer has no error
	}
	var out []*corev1.Pod
	for _, pod := range all {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if !ended && sidecar.CapturedByCNI(pod) {
			out = append(out, pod)
		}
	}
	return out
}

// started reports whether the sidecar of a pod has started, for which it needs the rules.
func started(pod *corev1.Pod) bool {
	found, ok := sidecar.Find(&pod.Spec)
	if !ok {
		return false
	}
	for _, s := range pod.Status.InitContainerStatuses {
		if s.Name == pod.Spec.InitContainers[found.Proxy].Name {
			return s.Started != nil && *s.Started
		}
	}
	return false
}

// strip keeps only the fields that this package reads, because nodes have many pods, and pods have large specs.
func strip(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Spec:       corev1.PodSpec{HostNetwork: pod.Spec.HostNetwork},
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}
	for _, c := range pod.Spec.InitContainers {
		out.Spec.InitContainers = append(out.Spec.InitContainers, corev1.Container{Name: c.Name, Args: c.Args, RestartPolicy: c.RestartPolicy})
	}
	for _, s := range pod.Status.InitContainerStatuses {
		out.Status.InitContainerStatuses = append(out.Status.InitContainerStatuses, corev1.ContainerStatus{Name: s.Name, Started: s.Started})
	}
	return out, nil
}
