package kube

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The events of one replica are bounded: eventBurst at once, and eventRate a second after that. Further events wait, for
// example when a new leader reports all problems of a large mesh. An event that would wait for longer than eventWait is
// dropped; its problem is still in statuses and in /debug/problems.
const (
	eventRate  = 10
	eventBurst = 100
	eventWait  = 5 * time.Minute
)

// maxNote is the longest note of an event, in bytes, that the API server accepts.
const maxNote = 1024

// Events writes warnings about users' objects.
type Events struct {
	recorder events.EventRecorder
	limiter  *rate.Limiter
	ending   func(namespace string) bool
}

// NewEvents returns an Events that writes to a recorder. ending reports whether a namespace is being deleted: its objects go one after
// the other, so that those which are left have problems for a moment, and the API server takes no events there any more.
func NewEvents(recorder events.EventRecorder, ending func(namespace string) bool) *Events {
	return &Events{recorder: recorder, limiter: rate.NewLimiter(eventRate, eventBurst), ending: ending}
}

// NamespaceEnding returns the function for NewEvents that reads a cache until ctx ends.
func NamespaceEnding(ctx context.Context, c client.Reader) func(namespace string) bool {
	return func(namespace string) bool {
		ns := NamespaceMetadata()
		// One that is not known may be new.
		return namespace != "" && c.Get(ctx, client.ObjectKey{Name: namespace}, ns) == nil && ns.DeletionTimestamp != nil
	}
}

// Warn writes an event on an object; action is what was done when its problem was found. field and what distinguish the
// problem from others of the object. Without them the recorder would treat events with the same reason as repetitions of
// one event, whatever their notes say.
func (e *Events) Warn(object corev1.ObjectReference, reason, action, field, what, note string) {
	if e.ending(object.Namespace) {
		return
	}
	object.FieldPath = fmt.Sprintf("%s=%.256s", field, what)
	write := func() {
		if !e.ending(object.Namespace) {
			e.recorder.Eventf(&object, nil, corev1.EventTypeWarning, reason, action, "%s", shorten(note))
		}
	}
	reservation := e.limiter.Reserve()
	switch delay := reservation.Delay(); {
	case delay == 0:
		write()
	case delay <= eventWait:
		time.AfterFunc(delay, write)
	default:
		reservation.Cancel()
	}
}

// shorten cuts a note at maxNote.
func shorten(note string) string {
	const end = " …"
	if len(note) <= maxNote {
		return note
	}
	cut := maxNote - len(end)
	for !utf8.RuneStart(note[cut]) {
		cut--
	}
	return strings.TrimSpace(note[:cut]) + end
}
