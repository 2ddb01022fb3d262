package kube

import (
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
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

// A flood of problems is not a flood of requests to the API server.
func TestEventsAreBounded(t *testing.T) {
	recorder := events.NewFakeRecorder(10 * eventBurst)
	e := NewEvents(recorder)
	for range 5 * eventBurst {
		e.Warn(corev1.ObjectReference{Kind: "Service", Namespace: "shop", Name: "web"}, "BadAnnotation", "Translate", "f", "v", "note")
	}
	if n := len(recorder.Events); n < eventBurst || n > eventBurst+2*eventRate {
		t.Errorf("%d events at once, want %d", n, eventBurst)
	}
}
