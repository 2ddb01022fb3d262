package kube_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/identity/kube"
	"github.com/mizzen-mesh/mizzen/internal/kubecache"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
)

func TestReview(t *testing.T) {
	good := func() authenticationv1.TokenReviewStatus {
		return authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{api.Audience},
			User: authenticationv1.UserInfo{
				Username: "system:serviceaccount:shop:web",
				Extra: map[string]authenticationv1.ExtraValue{
					"authentication.kubernetes.io/pod-name": {"web-1"}, "authentication.kubernetes.io/pod-uid": {"uid-1"},
				},
			},
		}
	}
	for name, tt := range map[string]struct {
		change func(*authenticationv1.TokenReviewStatus)
		want   string // in the error; empty for none
	}{
		"of a pod":                {func(*authenticationv1.TokenReviewStatus) {}, ""},
		"for other audiences too": {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = append(s.Audiences, "x") }, ""},
		"expired, or foreign": {func(s *authenticationv1.TokenReviewStatus) {
			*s = authenticationv1.TokenReviewStatus{Error: "token has expired"}
		}, "token has expired"},
		"for another audience": {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"vault"} }, `"vault"`},
		"for no audience":      {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }, api.Audience},
		"of a person":          {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "admin" }, `"admin"`},
		"of a node":            {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:node:n1" }, "system:node:n1"},
		"of a name like one":   {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "shop:web" }, `"shop:web"`},
		"bound to no pod":      {func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil }, "not bound to a pod"},
		"bound to half a pod": {func(s *authenticationv1.TokenReviewStatus) {
			delete(s.User.Extra, "authentication.kubernetes.io/pod-uid")
		}, "pod-uid"},
		"bound to two pods": {func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra["authentication.kubernetes.io/pod-name"] = []string{"a", "b"}
		}, "pod-name"},
	} {
		t.Run(name, func(t *testing.T) {
			c := kubefake.NewClientset()
			c.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
				review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
				if review.Spec.Token != "secret" || !slices.Equal(review.Spec.Audiences, []string{api.Audience}) {
					t.Errorf("asked %+v", review.Spec)
				}
				review = review.DeepCopy()
				review.Status = good()
				tt.change(&review.Status)
				return true, review, nil
			})
			got, err := (&kube.Tokens{Client: c.AuthenticationV1().TokenReviews()}).Review(t.Context(), "secret")
			if tt.want == "" {
				if want := (issuer.Caller{Namespace: "shop", ServiceAccount: "web", Pod: "web-1", UID: "uid-1"}); got != want || err != nil {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if !errors.Is(err, issuer.ErrToken) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%+v, error %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestReviewIsNotPossible(t *testing.T) {
	c := kubefake.NewClientset()
	c.PrependReactor("create", "tokenreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	_, err := (&kube.Tokens{Client: c.AuthenticationV1().TokenReviews()}).Review(t.Context(), "secret")
	if err == nil || errors.Is(err, issuer.ErrToken) {
		t.Errorf("error %v: it is not the token's fault", err)
	}
}

func pod(uid types.UID, phase corev1.PodPhase, ips ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: uid, Annotations: map[string]string{"a": "b"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "n1"},
		Status:     corev1.PodStatus{Phase: phase},
	}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	return p
}

func TestPod(t *testing.T) {
	running := pod("1", corev1.PodRunning, "10.1.2.3", "fd00::3")
	here := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")}
	for name, tt := range map[string]struct {
		cached, live *corev1.Pod
		want         *issuer.Pod // nil for ErrNoPod
	}{
		"known":                         {running, nil, &issuer.Pod{ServiceAccount: "web", IPs: here}},
		"not in the cache yet":          {nil, running, &issuer.Pod{ServiceAccount: "web", IPs: here}},
		"another of its name is cached": {pod("0", corev1.PodRunning, "10.9.9.9"), running, &issuer.Pod{ServiceAccount: "web", IPs: here}},
		"without an address":            {pod("1", corev1.PodPending), nil, &issuer.Pod{ServiceAccount: "web"}},
		"ended well":                    {pod("1", corev1.PodSucceeded, "10.1.2.3"), nil, &issuer.Pod{ServiceAccount: "web", IPs: here[:1], Ended: true}},
		"ended badly":                   {pod("1", corev1.PodFailed, "10.1.2.3"), nil, &issuer.Pod{ServiceAccount: "web", IPs: here[:1], Ended: true}},
		"gone":                          {nil, nil, nil},
		"replaced":                      {pod("2", corev1.PodRunning), pod("2", corev1.PodRunning), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := (&kube.Pods{Cache: reader(t, tt.cached), Live: reader(t, tt.live)}).Pod(t.Context(), "shop", "web-1", "1")
			if tt.want == nil {
				if !errors.Is(err, issuer.ErrNoPod) {
					t.Errorf("%+v, error %v", got, err)
				}
				return
			}
			if err != nil || got.ServiceAccount != tt.want.ServiceAccount || got.Ended != tt.want.Ended || !slices.Equal(got.IPs, tt.want.IPs) {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// reader has a pod as the cache keeps it, or none.
func reader(t *testing.T, p *corev1.Pod) client.Reader {
	t.Helper()
	b := fake.NewClientBuilder()
	if p != nil {
		stripped, err := kubecache.Pod(p)
		if err != nil {
			t.Fatal(err)
		}
		b.WithObjects(stripped.(*corev1.Pod))
	}
	return b.Build()
}

// A pod that was injected and has not started yet knows the bundle that it was given and no other.
func TestStarting(t *testing.T) {
	b := fake.NewClientBuilder()
	for name, phase := range map[string]corev1.PodPhase{"one": corev1.PodPending, "two": corev1.PodPending, "up": corev1.PodRunning, "none": corev1.PodPending} {
		p := pod(types.UID(name), phase)
		p.Name = name
		bundle := "roots"
		if name == "two" {
			bundle = "other roots"
		}
		if name != "none" {
			p.Spec.InitContainers = sidecartest.Containers()
			p.Spec.InitContainers[1].Env = []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: contract.TrustBundleEnv, Value: bundle}}
		}
		stripped, err := kubecache.Pod(p)
		if err != nil {
			t.Fatal(err)
		}
		b.WithObjects(stripped.(*corev1.Pod))
	}
	got, err := (&kube.Pods{Cache: b.Build()}).Starting(t.Context())
	if want := map[string]int{api.Version("roots"): 1, api.Version("other roots"): 1}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// Of who asks in vain often only the address is known.
func TestPodAtAnAddress(t *testing.T) {
	other := func(name, ip string, change func(*corev1.Pod)) *corev1.Pod {
		p := pod("2", corev1.PodRunning, ip)
		p.Name = name
		change(p)
		return p
	}
	same := func(*corev1.Pod) {}
	b := fake.NewClientBuilder().WithObjects(
		pod("1", corev1.PodRunning, "10.1.2.3", "fd00::3"),
		other("ended", "10.1.2.3", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		other("of-the-node", "10.0.0.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		other("twice-a", "10.1.2.9", same), other("twice-b", "10.1.2.9", same),
	)
	if err := kube.IndexAddresses(t.Context(), indexer{b}); err != nil {
		t.Fatal(err)
	}
	pods := &kube.Pods{Cache: b.Build()}
	for address, want := range map[string]string{"10.1.2.3": "web-1", "fd00::3": "web-1", "10.0.0.1": "", "10.1.2.9": "", "10.9.9.9": ""} {
		got, ok := pods.At(t.Context(), netip.MustParseAddr(address))
		if ok != (want != "") || got.Pod != want || ok && (got.UID != "1" || got.Namespace != "shop" || got.ServiceAccount != "web") {
			t.Errorf("%s: %+v, %v, want %q", address, got, ok, want)
		}
	}
}

// indexer adds an index to a fake client.
type indexer struct{ b *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, o client.Object, field string, f client.IndexerFunc) error {
	i.b.WithIndex(o, field, f)
	return nil
}

func TestPodCannotBeRead(t *testing.T) {
	broken := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errors.New("connection refused")
		},
	}).Build()
	_, err := (&kube.Pods{Cache: reader(t, nil), Live: broken}).Pod(t.Context(), "shop", "web-1", "1")
	if err == nil || errors.Is(err, issuer.ErrNoPod) {
		t.Errorf("error %v: nobody knows that there is none", err)
	}
}
