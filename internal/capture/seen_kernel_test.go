package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
)

// capturedEnv makes the test binary a sidecar that starts: it says whether the rules are there, and ends.
const capturedEnv = "MIZZEN_TEST_CAPTURED"

func sayWhetherCaptured() {
	for _, ip := range []string{podV4, podV6} {
		fmt.Printf("%t ", OwnCallsCaptured(netip.MustParseAddr(ip)))
	}
}

// A sidecar that starts before its rules knows when they are there, for each family of addresses and without any capability.
func TestOwnCallsCaptured(t *testing.T) {
	pod, _ := newPod(t)
	look := func() string {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{capturedEnv + "=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: config.ProxyUID, Gid: config.ProxyUID}}
		var out []byte
		pod.do(func() (err error) {
			out, err = cmd.Output()
			return err
		})
		return string(out)
	}
	install := func(ownCalls bool) {
		s := Default()
		s.CapturesOwnCalls = ownCalls
		pod.do(func() error {
			installed, err := Install(s)
			if ownCalls {
				err = errors.Join(err, installed.WithoutCallers)
			}
			return err
		})
	}
	if got := look(); got != "false false " {
		t.Errorf("without rules: captured %s", got)
	}
	install(false)
	if got := look(); got != "false false " {
		t.Errorf("with rules that leave own calls alone: captured %s", got)
	}
	install(true)
	if got := look(); got != "true true " {
		t.Errorf("with rules for own calls: captured %s", got)
	}
}
