package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// crowd is agents that all answer only when as many as are allowed are asked at a time.
type crowd struct {
	mu           sync.Mutex
	active, most int
	full         chan struct{}
}

func (c *crowd) ask(_ context.Context, pod mesh.Key, path string, into any) error {
	c.mu.Lock()
	c.active++
	if c.active > c.most {
		c.most = c.active
	}
	if c.active == parallelAsks {
		select {
		case <-c.full:
		default:
			close(c.full)
		}
	}
	c.mu.Unlock()
	<-c.full
	c.mu.Lock()
	c.active--
	c.mu.Unlock()
	if path != agentapi.PlainTextPath || strings.HasSuffix(pod.Name, "7") {
		return errors.New(pod.Name + " does not answer")
	}
	into.(*agentapi.PlainText).Forgotten = uint64(len(pod.Name))
	return nil
}

func (c *crowd) log(context.Context, mesh.Key, string, bool) ([]byte, error) { return nil, nil }

func (c *crowd) page(context.Context, mesh.Key, int, string) ([]byte, error) {
	return nil, errors.New("nobody asks for it")
}

func TestAskAll(t *testing.T) {
	inv := newInventory("mizzen-system")
	for i := range 100 {
		inv.addPod(injectedPod("shop", fmt.Sprint("pod-", i), "10.0.0.9"))
	}
	c := &crowd{full: make(chan struct{})}
	said := askAll(context.Background(), c, inv.pods, &bytes.Buffer{})
	if len(said) != len(inv.pods) || c.most != parallelAsks {
		t.Errorf("%d answers, %d at a time, want %d", len(said), c.most, parallelAsks)
	}
	for key, h := range said {
		if fails := strings.HasSuffix(key.Name, "7"); fails != (h.err != nil) || !fails && h.Forgotten != uint64(len(key.Name)) {
			t.Errorf("%s: %+v", key, h)
		}
	}
	if said := askAll(context.Background(), c, nil, &bytes.Buffer{}); len(said) > 0 {
		t.Errorf("%v", said)
	}
}

func TestTell(*testing.T) {
	told := make(chan struct{})
	stop := tell(time.Millisecond, func() { told <- struct{}{} })
	<-told
	<-told
	go func() {
		for range told {
		}
	}()
	stop()
	close(told) // a word after the end would panic
}
