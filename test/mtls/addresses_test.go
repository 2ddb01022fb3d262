package mtls

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// addressesChange calls by address, while others come to answer there.
func addressesChange(t *testing.T, cp *world.ControlPlane) {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(world.ServerIP), port) }
	set := func(port uint16, identity string) {
		t.Helper()
		if err := cp.SetPods(map[netip.AddrPort]string{at(port): identity}); err != nil {
			t.Fatal(err)
		}
	}
	byIP := at(webPort).String()

	// Nobody knows who answers at a port that was never called. The call waits until somebody does.
	set(greeterPort, "")
	greeted := make(chan error, 1)
	go func() {
		_, err := greet(at(greeterPort).String())
		greeted <- err
	}()
	await(t, "the address is asked for", func() bool { return cp.Wanted(at(greeterPort)) })
	if got, err := get(byIP); got != "server" || err != nil {
		t.Errorf("another address meanwhile: %q, %v", got, err)
	}
	select {
	case err := <-greeted:
		t.Fatalf("answered before it was known who does: %v", err)
	default:
	}
	set(greeterPort, mesh.PlainText) // the server, which speaks first, takes that, too
	if err := <-greeted; err != nil {
		t.Errorf("the call that has waited: %v", err)
	}

	// With strict, plain text is told from mTLS. A connection outlives what becomes of its address.
	mode := func(mode config.MTLSMode) {
		t.Helper()
		if err := cp.SetMode(mode); err != nil {
			t.Fatal(err)
		}
		await(t, "the mode holds", func() bool { return (outside(byIP) == nil) == (mode == config.Permissive) })
	}
	mode(config.Strict)
	defer mode(config.Permissive)
	set(greeterPort, idServer)
	await(t, "the pod is called as one of the mesh", func() bool { _, err := greet(at(greeterPort).String()); return err == nil })
	long, err := net.DialTimeout("tcp", at(greeterPort).String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	_ = long.SetDeadline(time.Now().Add(time.Minute))
	again := func(what string) {
		t.Helper()
		b := make([]byte, len("welcome\n"))
		if _, err := io.ReadFull(long, b); err != nil || string(b) != "welcome\n" {
			t.Fatalf("the first connection, when %s: %q, %v", what, b, err)
		}
		if _, err := io.WriteString(long, "welcome\n"); err != nil {
			t.Errorf("the first connection, when %s: %v", what, err)
		}
	}
	again("it is made")
	for i, step := range []struct {
		name, identity string
		served         bool
	}{
		{"somebody else answers", idClient, false},
		{"it is the server again", idServer, true},
		{"it is no pod's", mesh.PlainText, false},
		{"nobody knows", "", false}, // it stays as it was
		{"it is a pod's again", idServer, true},
	} {
		t.Run(fmt.Sprint(i, " ", step.name), func(t *testing.T) {
			set(greeterPort, step.identity)
			await(t, "it is called so", func() bool {
				_, err := greet(at(greeterPort).String())
				return (err == nil) == step.served
			})
			again(step.name)
		})
	}
}
