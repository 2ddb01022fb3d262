package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dropTable is the nftables table that drops packets in a pod's network namespace.
const dropTable = "mizzen_chaos"

// lacks says what of a need is missing here; nothing is "".
func (s *suite) lacks(ctx context.Context, n need) (string, error) {
	switch n {
	case thisMachine:
		switch pod, err := s.CoreV1().Pods(s.ns).Get(ctx, callerPod, metav1.GetOptions{}); {
		case err != nil:
			return "", err
		case os.Getuid() != 0:
			return "only root can send signals to the cluster's processes", nil
		default:
			_, err := processOf(pod, "")
			return text(err), nil
		}
	case ownAPIServer:
		_, err := s.Component(ctx, apiServer)
		return text(err), nil
	case dropping:
		for _, program := range []string{"nsenter", "nft"} {
			if _, err := exec.LookPath(program); err != nil {
				return err.Error(), nil //nolint:nilerr // it is what is missing
			}
		}
	case delaying:
		// In a network namespace of its own, which ends with the program.
		out, err := exec.CommandContext(ctx, "unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms").CombinedOutput()
		if err != nil {
			return fmt.Sprintf("the kernel's network emulator, sch_netem, cannot be used: %v: %s", err, strings.TrimSpace(string(out))), nil
		}
	case ownCRDs:
		foreign, err := s.ForeignGatewayAPI(ctx)
		if err != nil {
			return "", err
		}
		if foreign {
			return "the CRDs of the Gateway API were there before", nil
		}
	}
	return "", nil
}

// text of an error; none is "".
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// inNetworkOf runs a program in the network namespace of a pod's process. Input goes to the program.
func (s *suite) inNetworkOf(ctx context.Context, p process, input, program string, args ...string) error {
	if err := p.there(); err != nil {
		return err
	}
	theirs, err := p.network()
	if err != nil {
		return err
	}
	if ours, err := os.Readlink("/proc/self/ns/net"); err != nil || ours == theirs {
		return errors.Join(err, fmt.Errorf("process %d, %s, is on this machine's own network", p.pid, p.program))
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(p.pid), "--net", program}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s in the network of process %d: %w: %s", program, strings.Join(args, " "), p.pid, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// drops is a table that drops packets of all links but the loopback, before any other rule sees them. which selects them.
func drops(which string) string {
	return fmt.Sprintf(`table inet %[1]s {
	chain in { type filter hook input priority -400; policy accept; iifname != "lo" %[2]s drop; }
	chain out { type filter hook output priority -400; policy accept; oifname != "lo" %[2]s drop; }
}
`, dropTable, which)
}

// disturb does something to the network of a server's pod for a while.
func (s *suite) disturb(ctx context.Context, draw *rand.Rand, length time.Duration, begin, end func(context.Context, process) error) (*harm, string, error) {
	deployment, pod, err := s.ofSome(ctx, draw, gone)
	if err != nil {
		return nil, "", err
	}
	p, err := processOf(pod, "")
	if err != nil {
		return nil, "", err
	}
	h := &harm{target: fmt.Sprintf("pod/%s for %s", pod.Name, length), settle: s.complete(deployment)}
	h.undo = func(ctx context.Context) error { return end(ctx, p) }
	if err := begin(ctx, p); err != nil {
		return h, deployment, err
	}
	return h, deployment, hold(ctx, length)
}

func (s *suite) drop(ctx context.Context, draw *rand.Rand, length time.Duration, which string) (*harm, string, error) {
	return s.disturb(ctx, draw, length, func(ctx context.Context, p process) error {
		return s.inNetworkOf(ctx, p, drops(which), "nft", "-f", "-")
	}, func(ctx context.Context, p process) error {
		return s.inNetworkOf(ctx, p, "", "nft", "delete", "table", "inet", dropTable)
	})
}

// podCut excuses calls to the Deployment that were made while the pod was cut off, and for as long again: TCP waits twice as long before
// each attempt to send something again. No more than the pod's share of them is excused.
func podCut(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	from, length := time.Now(), seconds(draw, 2, 5)
	h, deployment, err := s.drop(ctx, draw, length, "")
	if h != nil {
		h.excuses = s.cutOff(deployment, from, time.Now())
	}
	return h, err
}

// cutOff is what a cut between two moments excuses.
func (s *suite) cutOff(deployment string, from, to time.Time) []excuse {
	until := to.Add(to.Sub(from))
	var of []caller
	for _, c := range s.clients {
		if answeredBy(deployment)(c.caller) && !c.held && !c.direct {
			of = append(of, c.caller)
		}
	}
	share := s.Rate * until.Sub(from).Seconds() * float64(len(of)) / float64(replicas[deployment])
	return []excuse{
		{why: "to a pod that was cut off", of: func(c caller) bool { return answeredBy(deployment)(c) && !c.held && !c.direct }, from: from, until: until, most: int(share) + 1},
		{why: "on a TCP connection to a pod that was cut off", of: heldBy(deployment), from: from, until: until},
		{why: "to the address of a pod that was cut off", of: directlyTo(deployment), from: from},
	}
}

// packetsLost excuses nothing: TCP sends again what is lost.
func packetsLost(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	percent := 1 + draw.IntN(5)
	h, _, err := s.drop(ctx, draw, seconds(draw, 5, 15), fmt.Sprintf("numgen random mod 100 < %d", percent))
	if h != nil {
		h.target += fmt.Sprintf(", %d %%", percent)
	}
	return h, err
}

// emulate has the kernel treat what a pod sends. It excuses nothing.
func (s *suite) emulate(ctx context.Context, draw *rand.Rand, how ...string) (*harm, error) {
	h, _, err := s.disturb(ctx, draw, seconds(draw, 5, 15), func(ctx context.Context, p process) error {
		return s.inNetworkOf(ctx, p, "", "tc", append([]string{"qdisc", "add", "dev", "eth0", "root", "netem"}, how...)...)
	}, func(ctx context.Context, p process) error {
		return s.inNetworkOf(ctx, p, "", "tc", "qdisc", "del", "dev", "eth0", "root")
	})
	if h != nil {
		h.target += ", " + strings.Join(how, " ")
	}
	return h, err
}

func packetsDelayed(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	return s.emulate(ctx, draw, "delay", fmt.Sprintf("%dms", 20+draw.IntN(180)), "10ms")
}

func packetsReordered(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	return s.emulate(ctx, draw, "delay", "10ms", "reorder", fmt.Sprintf("%d%%", 5+draw.IntN(45)), "50%")
}
