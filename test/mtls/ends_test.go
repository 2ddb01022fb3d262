package mtls

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

const (
	sinkPort = 9393
	latePort = 9494
)

// nothingLost holds that what a client writes before it closes at once reaches the application.
func nothingLost(t *testing.T, pods *world.Pods) {
	l, err := pods.Server.Listen(fmt.Sprintf("%s:%d", world.ServerIP, sinkPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 100)
	go listentest.Serve(l, func(c net.Conn) {
		n, _ := io.Copy(io.Discard, c)
		got <- n
	})
	target := fmt.Sprintf("%s:%d", world.ServerIP, sinkPort)
	for name, asProxy := range map[string]bool{"without a sidecar": true, "in the mesh": false} {
		for _, wait := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, %v before the end", name, wait), func(t *testing.T) {
				const connections, size = 50, 30
				for range connections {
					if err := writeAndClose(target, make([]byte, size), wait, asProxy); err != nil {
						t.Fatal(err)
					}
				}
				whole := 0
				for range connections {
					select {
					case n := <-got:
						if n == size {
							whole++
						}
					case <-time.After(15 * time.Second):
						t.Fatalf("%d whole, and others have not come to an end", whole)
					}
				}
				if whole != connections {
					t.Errorf("%d of %d whole", whole, connections)
				}
			})
		}
	}
}

func writeAndClose(target string, b []byte, wait time.Duration, asProxy bool) error {
	if asProxy {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if _, err := unix.SetfsuidRetUid(config.ProxyUID); err != nil {
			return err
		}
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	}
	c, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		return err
	}
	time.Sleep(wait) // what is tried is an end so long after the content
	return nil
}
