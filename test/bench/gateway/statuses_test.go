package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/mizzen-mesh/mizzen/config"
)

// said is route "a" of a generation with conditions of another one, of a controller.
func said(generation, observed int64, controller, resolved string) *unstructured.Unstructured {
	r := route("shop", "a", "edge", "a.com", "s", 80)
	r.SetGeneration(generation)
	condition := func(kind, status string) any {
		return object{"type": kind, "status": status, "observedGeneration": observed, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
	}
	r.Object["status"] = object{"parents": []any{object{
		"parentRef": object{"name": "public"}, "controllerName": controller,
		"conditions": []any{condition("Accepted", "True"), condition("ResolvedRefs", resolved)},
	}}}
	return r
}

func TestAccepted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		route *unstructured.Unstructured
		want  bool
	}{
		{"right", said(2, 2, config.ControllerName, "True"), true},
		{"of an older generation", said(2, 1, config.ControllerName, "True"), false},
		{"no backend", said(2, 2, config.ControllerName, "False"), false},
		{"of somebody else", said(2, 2, "other.dev/controller", "True"), false},
		{"nothing said", route("shop", "a", "edge", "a.com", "s", 80), false},
	} {
		if got, err := accepted(tt.route); err != nil || got != tt.want {
			t.Errorf("%s: %t, error %v, want %t", tt.name, got, err, tt.want)
		}
	}
}

func gatewayWith(attached int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: object{
		"metadata": object{"namespace": "edge", "name": "public", "generation": int64(1)},
		"status":   object{"listeners": []any{object{"name": "http", "attachedRoutes": attached}}},
	}}
}

// A change is one of the status if the generation is the same as before.
func TestStatuses(t *testing.T) {
	s := newStatuses()
	for i, event := range []struct {
		kind string
		watch.Event
		missing string
	}{
		{gatewayKind, watch.Event{Type: watch.Added, Object: gatewayWith(0)}, "attachedRoutes is 0"},
		{routeKind, watch.Event{Type: watch.Added, Object: said(1, 0, config.ControllerName, "True")}, "0 of 1 routes"},
		{gatewayKind, watch.Event{Type: watch.Modified, Object: gatewayWith(1)}, "attachedRoutes is 1, and 0 of 1"},
		{routeKind, watch.Event{Type: watch.Modified, Object: said(1, 1, config.ControllerName, "True")}, ""},
		{routeKind, watch.Event{Type: watch.Modified, Object: said(2, 1, config.ControllerName, "True")}, "0 of 1 routes"}, // its spec
		{routeKind, watch.Event{Type: watch.Modified, Object: said(2, 2, config.ControllerName, "True")}, ""},
		{routeKind, watch.Event{Type: watch.Deleted, Object: said(2, 2, config.ControllerName, "True")}, "0 of 0 routes"},
	} {
		if err := s.note(event.kind, event.Event, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.missing(1); (got == "") != (event.missing == "") || !strings.Contains(got, event.missing) {
			t.Errorf("after event %d: %q, want %q", i, got, event.missing)
		}
	}
	writes, err := s.settled(t.Context(), time.Millisecond)
	if err != nil || writes[gatewayKind] != 1 || writes[routeKind] != 2 {
		t.Errorf("%v, error %v, want one write of the Gateway and two of the route", writes, err)
	}
	if writes, err := s.settled(t.Context(), time.Millisecond); err != nil || len(writes) != 0 {
		t.Errorf("%v, error %v: want what has come since", writes, err)
	}
}

func TestAwait(t *testing.T) {
	s := newStatuses()
	ended := make(chan error)
	go func() { ended <- s.await(context.Background(), nil, 0, time.Minute) }()
	if err := s.note(gatewayKind, watch.Event{Type: watch.Added, Object: gatewayWith(3)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.note(gatewayKind, watch.Event{Type: watch.Modified, Object: gatewayWith(0)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.await(t.Context(), nil, 1, time.Millisecond); err == nil || !strings.Contains(err.Error(), "want 1") {
		t.Errorf("error %v, want one that says what is missing", err)
	}
	if err := s.note(gatewayKind, watch.Event{Type: watch.Error}, time.Now()); err == nil {
		t.Error("a watch that fails is no error")
	}
}
