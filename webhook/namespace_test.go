package webhook

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/config"
)

// What the namespace's rules change, kubectl prints, and an event tells where a controller makes the pod.
func TestHandlerTellsOfTheNamespacesRules(t *testing.T) {
	const pod = `{"metadata": {"name": "a", "labels": {"mizzen.dev/injection": "enabled"}%s}, "spec": {"containers": [{"name": "app", "image": "app"}]}}`
	const owner = `, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-1", "uid": "u", "controller": true}]`
	restricted := func() (Namespace, error) {
		return Namespace{Labels: map[string]string{podSecurityEnforce: "restricted"}, Annotations: map[string]string{config.AnnotationImagePullSecrets: "regcred"}}, nil
	}
	for name, c := range map[string]struct {
		owner           string
		rules           func() (Namespace, error)
		refused         bool
		warnings, event string
	}{
		"no rules":       {owner, func() (Namespace, error) { return Namespace{}, nil }, false, "", ""},
		"a user's pod":   {"", restricted, false, `enforces Pod Security "restricted"`, ""},
		"a controller's": {owner, restricted, false, `enforces Pod Security "restricted"`, "SidecarFitted"},
		"unreadable":     {owner, func() (Namespace, error) { return Namespace{}, errors.New("no cache yet") }, true, "", ""},
		"value that is refused": {owner, func() (Namespace, error) {
			return Namespace{Annotations: map[string]string{config.AnnotationDrainDelay: "soon"}}, nil
		}, true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := &events.FakeRecorder{Events: make(chan string, 1), Verbose: true}
			r := &rig{Handler: NewHandler(Options{
				Config: testMesh(), Recorder: recorder, Log: logr.Discard(),
				Namespace: func(context.Context, string) (Namespace, error) { return c.rules() },
			})}
			answer := r.post(t, strings.Replace(pod, "%s", c.owner, 1), nil)
			if answer.Allowed == c.refused {
				t.Fatalf("allowed %t: %+v", answer.Allowed, answer.Result)
			}
			if got := strings.Join(answer.Warnings, "|"); (got == "") != (c.warnings == "") || !strings.Contains(got, c.warnings) {
				t.Errorf("warnings %q, want %q", got, c.warnings)
			}
			got := ""
			select {
			case got = <-recorder.Events:
			default:
			}
			if (got == "") != (c.event == "") || !strings.Contains(got, c.event) {
				t.Errorf("event %q, want %q", got, c.event)
			}
		})
	}
}

func TestAddPullSecrets(t *testing.T) {
	spec := &corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "own"}, {Name: "both"}}}
	addPullSecrets(spec, []string{"both", "mesh"})
	var got []string
	for _, r := range spec.ImagePullSecrets {
		got = append(got, r.Name)
	}
	if want := "own both mesh"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
