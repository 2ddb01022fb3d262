package capture

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// trialEnv makes the test binary a sidecar that looks for its rules once.
const trialEnv = "MIZZEN_TEST_TRIAL"

// trial prints what Captured says.
func trial() {
	switch err := Captured(context.Background()); {
	case err == nil:
		fmt.Print("captured")
	case errors.Is(err, ErrNotCaptured):
		fmt.Print("not captured")
	default:
		fmt.Print(err)
	}
}

// captured asks as the sidecar's user, without any privilege.
func (n ns) captured() (answer string) {
	n.t.Helper()
	n.do(func() error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{trialEnv + "=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: fixed.ProxyUID, Gid: fixed.ProxyUID}}
		out, err := cmd.CombinedOutput()
		answer = string(out)
		return err
	})
	return answer
}

// The sidecar sees whether its pod is captured, with every kind of rules, and is not deceived by who listens on its ports.
func TestCaptured(t *testing.T) {
	excluding := excluding()
	excluding.ExcludeInboundPorts = append(excluding.ExcludeInboundPorts, fixed.OutboundPort, fixed.InboundPort)
	identity := Default()
	identity.CapturesOwnCalls = true
	callers := identity
	callers.PodAddresses = ownAddresses(true)
	for name, rules := range map[string]*Ruleset{
		"no rules": nil, "default": new(Rules(Default(), Full)), "plain": new(Rules(Default(), Plain)),
		"identity": new(Rules(identity, Full)), "identity with callers": new(Rules(callers, Full)), "everything excluded": new(Rules(excluding, Full)),
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := newPod(t)
			want := "not captured"
			if rules != nil {
				want = "captured"
				pod.do(func() error { return Apply(*rules) })
			}
			if got := pod.captured(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			pod.serve("somebody", "tcp4", "127.0.0.1:15001")
			if got := pod.captured(); got != want {
				t.Errorf("with somebody at the outbound port: %s, want %s", got, want)
			}
		})
	}
}
