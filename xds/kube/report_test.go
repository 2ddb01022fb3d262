package kube

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

func TestReporter(t *testing.T) {
	recorder := events.NewFakeRecorder(10)
	leader := false
	r := NewReporter(testr.New(t), NewEvents(recorder, goesOn), func() bool { return leader }, prometheus.NewRegistry())
	web := mesh.ID{Kind: mesh.KindService, Key: mesh.Key{Namespace: "shop", Name: "web"}}
	problem := mesh.Problem{
		Object: web, Reason: "UnknownAppProtocol", Field: "spec.ports[0].appProtocol", Value: "x", Allowed: "one of a, b", Effect: "treated as opaque TCP",
	}
	expect := func(step string, events int, gauge float64) {
		t.Helper()
		if got := len(recorder.Events); got != events {
			t.Errorf("%s: %d events, want %d", step, got, events)
		}
		for range len(recorder.Events) {
			if e := <-recorder.Events; !strings.Contains(e, `Service shop/web: spec.ports[0].appProtocol: "x": want one of a, b; treated as opaque TCP`) {
				t.Errorf("%s: event %q", step, e)
			}
		}
		if got := testutil.ToFloat64(r.gauge.WithLabelValues("UnknownAppProtocol")); got != gauge {
			t.Errorf("%s: mizzen_object_problems %v, want %v", step, got, gauge)
		}
	}
	r.Report(web, []mesh.Problem{problem})
	expect("found while another replica leads", 0, 1)
	leader = true
	r.Lead(context.Background())
	expect("this replica leads", 1, 1)
	r.Report(web, []mesh.Problem{problem})
	expect("still there", 0, 1)
	page := httptest.NewRecorder()
	r.ServeHTTP(page, httptest.NewRequest("GET", "/debug/problems", nil))
	if !strings.Contains(page.Body.String(), `"Service shop/web": [`) || !strings.Contains(page.Body.String(), "treated as opaque TCP") {
		t.Errorf("/debug/problems: %s", page.Body)
	}
	r.Report(web, nil)
	expect("mended", 0, 0)
	r.Report(web, []mesh.Problem{problem})
	expect("back again", 1, 1)
}

// Each problem of an object has an event of its own, though they share the reason, and so has another value. The
// recorder of client-go takes what regards the same with the same reason for a repetition.
func TestEventsOfOneObject(t *testing.T) {
	client := fake.NewClientset()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	broadcaster.StartRecordingToSink(t.Context().Done())
	t.Cleanup(broadcaster.Shutdown)
	r := NewReporter(testr.New(t), NewEvents(broadcaster.NewRecorder(scheme.Scheme, "test"), goesOn), func() bool { return true }, prometheus.NewRegistry())
	web := mesh.ID{Kind: mesh.KindService, Key: mesh.Key{Namespace: "shop", Name: "web"}}
	problem := func(key, value string) mesh.Problem {
		return mesh.Problem{Object: web, Reason: "BadAnnotation", Field: "metadata.annotations[" + key + "]", Value: value}
	}
	for i, problems := range [][]mesh.Problem{
		{problem("mizzen.dev/timeout", "5 minutes"), problem("mizzen.dev/retry-on", "all")},
		{problem("mizzen.dev/timeout", "0.5s")},
	} {
		r.Report(web, problems)
		want := []int{2, 3}[i]
		err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
			list, err := client.EventsV1().Events("shop").List(ctx, metav1.ListOptions{})
			return err == nil && len(list.Items) == want, err
		})
		if err != nil {
			t.Errorf("step %d: not %d events: %v", i, want, err)
		}
	}
}
