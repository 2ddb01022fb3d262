package xds_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// echoes makes a connection and says whether what it sends comes back.
func echoes(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return sayAgain(conn)
}

func sayAgain(conn net.Conn) error {
	if _, err := io.WriteString(conn, marker); err != nil {
		return err
	}
	got, err := readN(conn, len(marker))
	if err == nil && got != marker {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

// New certificates, and a new root in three steps, fail no connection, old or new, and are used at once.
func TestRotation(t *testing.T) {
	old, next := newCA(t), newCA(t)
	pod := startCalled(t, old, idCart, all(config.Strict), serveBytes(t, echo))
	client := startSecrets(t, old, idClient)
	f := calling(t, client, idCart)
	f.identities[pod.wire] = idCart
	f.set("cart", pod.wire)
	f.outboundBytes()
	eventually(t, "an answer", func() bool { return echoes(f.address) == nil })
	long := dial(t, f.address)

	var made, failed atomic.Int32
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				made.Add(1)
				if err := echoes(f.address); err != nil {
					failed.Add(1)
					t.Errorf("a connection fails: %v", err)
				}
			}
		})
	}
	some := func() { // connections with what holds now
		t.Helper()
		at := made.Load()
		eventually(t, "connections are made", func() bool { return made.Load() > at+20 })
		if err := sayAgain(long); err != nil {
			t.Errorf("the connection that was made first: %v", err)
		}
	}
	both := func(change func(*secrets)) {
		for _, s := range []*secrets{client, pod.secrets} {
			change(s)
		}
		some()
	}
	renew := func(a *ca.Authority) {
		for s, id := range map[*secrets]string{client: idClient, pod.secrets: idCart} {
			s.certificate(issue(t, a, id, 0, time.Hour))
			s.taken(sds.Workload)
		}
		some()
	}
	trust := func(roots ...*ca.Authority) func(*secrets) {
		return func(s *secrets) { s.bundle(roots...); s.taken(sds.Bundle) }
	}
	some()
	renew(old)
	both(trust(old, next))
	renew(next)
	both(trust(next))
	close(stop)
	wg.Wait()
	t.Logf("%d connections, %d failed", made.Load(), failed.Load())

	if err := callTLS(pod.inbound, meshTLS(t, old, idClient)); err == nil {
		t.Error("the old root is still trusted")
	}
	if err := sayAgain(dial(t, f.address)); err != nil {
		t.Error(err)
	}
	// A client whose root is forgotten gets in no more.
	client.certificate(issue(t, old, idClient, 0, time.Hour))
	client.taken(sds.Workload)
	if err := echoes(f.address); err == nil {
		t.Error("a certificate of the old root was taken")
	}
}

// An endpoint whose identity the cluster does not know yet gets nothing, in no order of updates; others are
// called meanwhile. One that becomes another is called as the other.
func TestIdentityThatComesLater(t *testing.T) {
	a := newCA(t)
	cart := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, echo))
	other := startCalled(t, a, idOther, all(config.Permissive), serveBytes(t, echo))
	f := calling(t, startSecrets(t, a, idClient), idCart)
	f.identities = map[netip.AddrPort]string{cart.wire: idCart, other.wire: idOther}
	f.set("cart", cart.wire)
	f.outboundBytes()
	eventually(t, "an answer", func() bool { return echoes(f.address) == nil })
	f.set("cart", cart.wire, other.wire)
	eventually(t, "the new endpoint is tried", func() bool {
		_ = echoes(f.address)
		client, _ := other.tap.heard()
		return client != ""
	})
	if client, server := other.tap.heard(); !strings.HasPrefix(client, "\x16\x03") || strings.Contains(client+server, marker) {
		t.Errorf("plain text to an endpoint with an identity: %.100q", client)
	}
	// The other is now who the cluster knows.
	other.certificate(issue(t, a, idCart, 0, time.Hour))
	other.taken(sds.Workload)
	f.identities[other.wire] = idCart
	f.set("cart", other.wire)
	opened := other.tap.connections()
	eventually(t, "an answer of the other", func() bool { return echoes(f.address) == nil && other.tap.connections() > opened })
	// And then somebody without an identity, at the same address.
	plain := startTap(t, serveBytes(t, echo))
	f.identities[plain.address] = mesh.PlainText
	f.set("cart", plain.address)
	eventually(t, "an answer of the plain one", func() bool { _ = echoes(f.address); client, _ := plain.heard(); return client != "" })
	if client, _ := plain.heard(); !strings.HasPrefix(client, marker) {
		t.Errorf("got %.100q", client)
	}
}
