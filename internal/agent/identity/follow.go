package identity

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// pollPause is the least time between two questions for the roots.
	pollPause = time.Second / 2
	// pollSpread is the most that is waited after an answer without news.
	pollSpread = 2 * time.Second
	// ackWait is how long Envoy is waited for, so that the next question says what it has acknowledged.
	ackWait = 2 * time.Second
)

// followRoots asks for roots other than those that Envoy has acknowledged, again and again, until ctx ends.
// The control plane takes each question as a statement of what Envoy has (api.BundlePath).
func (i *Identity) followRoots(ctx context.Context) {
	select {
	case <-i.obtained:
	case <-ctx.Done():
		return
	}
	said := ""
	var last *credentials
	for failures := 0; ctx.Err() == nil; {
		begin := time.Now()
		have := i.awaitAck(ctx)
		if now := i.current.Load(); now != last {
			last = now
			i.client.close() // the connection was made with an older certificate
		}
		answer, err := i.client.bundle(ctx, have)
		var known roots
		if err == nil && answer != nil {
			known, err = parseRoots(answer.Bundle)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			if what := kind(err); what != said {
				said = what
				i.log.Warn("cannot ask for the mesh's roots, trying again", "controlPlane", i.opts.Address, "error", explain(err))
			}
			if r := (*refusedError)(nil); errors.As(err, &r) && r.final() {
				i.renewNow() // the control plane does not take this certificate: its root may be forgotten
			}
			pause(ctx, pollBackoff(failures))
			continue
		case answer != nil && !i.take(known):
			failures++
			pause(ctx, pollBackoff(failures))
			continue
		}
		failures, said = 0, ""
		if answer == nil {
			pause(ctx, rand.N(pollSpread)) // a replica that stops sends all of its agents away at once
		}
		pause(ctx, pollPause-time.Since(begin))
	}
}

// awaitAck gives Envoy a while to take the roots of the moment, and then says which it has taken.
func (i *Identity) awaitAck(ctx context.Context) string {
	timeout := time.NewTimer(ackWait)
	defer timeout.Stop()
	for {
		have, changed := i.sds.Acknowledged()
		if have == i.current.Load().roots.version {
			return have
		}
		select {
		case <-changed:
		case <-timeout.C:
			return have
		case <-ctx.Done():
			return have
		}
	}
}

// take puts new roots into use. Where the workload's own certificate is of none of them it would be cut off
// from whoever has them, so it is renewed first, which brings the roots along; then it is false.
func (i *Identity) take(known roots) bool {
	i.applying.Lock()
	defer i.applying.Unlock()
	now := i.current.Load()
	if known.version == now.roots.version {
		return true
	}
	next := *now
	next.roots = known
	at := now.controlPlaneNow()
	if end := now.certificate.Leaf.NotAfter; at.After(end) {
		at = end // that it has ended is another matter
	}
	if verify(now.certificate, known, at) != nil {
		i.log.Info("the mesh's new roots lack the root of this certificate: renewing the certificate")
		i.renewNow()
		return false
	}
	if err := i.apply(&next); err != nil {
		i.log.Error("cannot use the mesh's new roots", "error", err)
		return false
	}
	return true
}

func (i *Identity) renewNow() {
	select {
	case i.renew <- struct{}{}:
	default:
	}
}

func pollBackoff(failures int) time.Duration {
	wait := min(slowBackoff, firstBackoff<<min(failures, 16))
	return wait/2 + rand.N(wait/2)
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
