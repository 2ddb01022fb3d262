package main

import (
	"context"
	"errors"
	"testing"
)

// What feeds the ADS server goes on while streams end, and ends with the server, or by itself.
func TestFeedersOutliveTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	stopped, alive, ended := make(chan struct{}), make(chan error), make(chan error)
	go func() {
		ended <- until(served, func(ctx context.Context) error {
			<-stopped
			alive <- ctx.Err()
			<-ctx.Done()
			return ctx.Err()
		})(ctx)
	}()
	cancel()
	close(stopped)
	if err := <-alive; err != nil {
		t.Errorf("ended before the server: %v", err)
	}
	close(served)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	own := errors.New("its own")
	if err := until(make(chan struct{}), func(context.Context) error { return own })(t.Context()); !errors.Is(err, own) {
		t.Errorf("%v, want %v", err, own)
	}
}
