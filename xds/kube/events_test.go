package kube

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// The API server refuses an event with a longer note, and nobody would hear of it.
func TestNotesAreShortened(t *testing.T) {
	for name, note := range map[string]string{"ASCII": strings.Repeat("x", 3000), "wide": strings.Repeat("€", 1000), "short": "short"} {
		got := shorten(note)
		if len(got) > maxNote || !utf8.ValidString(got) || (len(note) <= maxNote) != (got == note) {
			t.Errorf("%s: %d bytes, valid %t: %.20s", name, len(got), utf8.ValidString(got), got)
		}
	}
}

// goesOn is a cluster in which no namespace is being deleted.
func goesOn(string) bool { return false }

// The API server takes no events of a namespace that is being deleted. One that is not known yet is not.
func TestEventsOfEndingNamespaces(t *testing.T) {
	ending := NamespaceMetadata()
	ending.Name, ending.DeletionTimestamp, ending.Finalizers = "ending", new(metav1.Now()), []string{"kubernetes"}
	living := NamespaceMetadata()
	living.Name = "living"
	recorder := events.NewFakeRecorder(10)
	e := NewEvents(recorder, NamespaceEnding(t.Context(), fake.NewClientBuilder().WithObjects(ending, living).Build()))
	for _, namespace := range []string{"ending", "living", "unknown", ""} {
		e.Warn(corev1.ObjectReference{Kind: "Service", Namespace: namespace, Name: "web"}, "BadAnnotation", "Translate", "f", "v", namespace)
	}
	close(recorder.Events)
	var got []string
	for event := range recorder.Events {
		got = append(got, event)
	}
	if diff := cmp.Diff([]string{"Warning BadAnnotation living", "Warning BadAnnotation unknown", "Warning BadAnnotation "}, got); diff != "" {
		t.Error(diff)
	}
}

// A flood of problems is not a flood of requests to the API server.
func TestEventsAreBounded(t *testing.T) {
	recorder := events.NewFakeRecorder(10 * eventBurst)
	e := NewEvents(recorder, goesOn)
	for range 5 * eventBurst {
		e.Warn(corev1.ObjectReference{Kind: "Service", Namespace: "shop", Name: "web"}, "BadAnnotation", "Translate", "f", "v", "note")
	}
	if n := len(recorder.Events); n < eventBurst || n > eventBurst+2*eventRate {
		t.Errorf("%d events at once, want %d", n, eventBurst)
	}
}
