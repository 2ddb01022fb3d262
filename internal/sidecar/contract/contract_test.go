package contract

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// What is written is read as it was meant: by the containers, and by who looks at a pod.
func TestArgumentsAreReadAsWritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		capture := Capture{ProxyUID: 1 + r.Uint32N(1<<31), OutboundPort: port(r), InboundPort: port(r), Captured: captured(r)}
		args := capture.Args()
		if !IsOn(args, AwaitSidecarFlag) || args[0] != CaptureCommand {
			t.Errorf("%q: want %s, --%s", args, CaptureCommand, AwaitSidecarFlag)
		}
		if looked, err := ReadCaptured(args); err != nil || !reflect.DeepEqual(looked, sorted(capture.Captured)) {
			t.Errorf("%q: who looks reads %+v, %v, want %+v", args, looked, err, capture.Captured)
		}
		if capture.CapturesOwnCalls { // the kubelet fills it in
			capture.NodeAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
			args[len(args)-1] = strings.ReplaceAll(args[len(args)-1], "$("+HostIPsEnv+")", "10.0.0.1,fd00::1")
		}
		var given CaptureFlags
		parse(t, args, given.Add)
		capture.Captured = sorted(capture.Captured)
		if got, err := given.Capture(); err != nil || !given.AwaitSidecar || !reflect.DeepEqual(got, capture) {
			t.Errorf("%q: read %+v, %v, want %+v", args, got, err, capture)
		}

		run, byNode := randomRun(r), captured(r)
		args = run.Args(byNode)
		if !run.CaptureByCNI {
			byNode = Captured{}
		}
		var got Run
		var beside CapturedFlags
		parse(t, args, func(f *pflag.FlagSet) { got.Add(f, nil); beside.Add(f) })
		if got != run || args[0] != RunCommand || IsOn(args, CaptureByCNIFlag) != run.CaptureByCNI || IsSet(args, IdentityAddressFlag) != (run.IdentityAddress != "") {
			t.Errorf("%q: read %+v, want %+v", args, got, run)
		}
		for who, read := range map[string]func() (Captured, error){"the proxy": beside.Captured, "who looks": func() (Captured, error) { return ReadCaptured(args) }} {
			if got, err := read(); err != nil || !reflect.DeepEqual(got, sorted(byNode)) {
				t.Errorf("%q: %s reads %+v, %v, want %+v", args, who, got, err, byNode)
			}
		}
	}
}

// Who looks at pods may be older than they are, and the arguments may be anybody's.
func TestReadCapturedLeavesOut(t *testing.T) {
	one := Captured{ExcludeInboundPorts: []uint16{22}}
	for args, want := range map[string]struct {
		captured Captured
		err      string
	}{
		"capture --later=1 --exclude-inbound-ports=22 --later":                    {one, ""},
		"capture --later 1 --exclude-inbound-ports 22":                            {one, ""},
		"capture --exclude-inbound-ports=22,x,0":                                  {one, `--exclude-inbound-ports: "x": want a port number, 1 to 65535` + "\n" + `--exclude-inbound-ports: "0": want a port number, 1 to 65535`},
		"capture --exclude-inbound-ports=22 --exclude-outbound-cidrs=10.0.0.0/40": {one, `--exclude-outbound-cidrs: "10.0.0.0/40": want a CIDR`},
		"capture --exclude-inbound-ports=22 --exclude-outbound-ports":             {one, "flag needs an argument"},
		"": {},
	} {
		got, err := ReadCaptured(strings.Fields(args))
		if !reflect.DeepEqual(got, want.captured) || (err != nil) != (want.err != "") || !strings.Contains(fmt.Sprint(err), want.err) {
			t.Errorf("%q: %+v, %v; want %+v, %q", args, got, err, want.captured, want.err)
		}
	}
}

// Each variable of the pod comes from the field that it is read as.
func TestEnvironmentIsReadAsWritten(t *testing.T) {
	of := map[string]string{
		"metadata.name": "cart-1", "metadata.namespace": "shop", "metadata.uid": "0c5a", "spec.serviceAccountName": "cart", "spec.nodeName": "n",
		"status.podIPs": "10.0.0.1,fd00::1",
	}
	env := map[string]string{WorkloadEnv: "Deployment/cart", TrustBundleEnv: "roots", KeepKeyEnv: "key"}
	for _, f := range PodFields {
		env[f.Name] = of[f.Path]
	}
	want := Env{
		Pod: "cart-1", Namespace: "shop", UID: "0c5a", ServiceAccount: "cart", NodeName: "n", Workload: "Deployment/cart", TrustBundle: "roots", KeepKey: "key",
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
	}
	if got, err := ReadEnv(func(name string) string { return env[name] }); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func parse(t *testing.T, args []string, add func(*pflag.FlagSet)) {
	t.Helper()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	add(f)
	if err := f.Parse(args); err != nil || f.NArg() != 1 {
		t.Fatalf("%q: %v, left %q", args, err, f.Args())
	}
}

func captured(r *rand.Rand) Captured {
	c := Captured{CapturesOwnCalls: coin(r)}
	for range r.IntN(4) {
		c.ExcludeInboundPorts = append(c.ExcludeInboundPorts, port(r))
		c.ExcludeOutboundPorts = append(c.ExcludeOutboundPorts, port(r))
		four, six := netip.AddrFrom4([4]byte{10, byte(r.IntN(256))}), netip.AddrFrom16([16]byte{0xfd, byte(r.IntN(256))})
		c.ExcludeOutboundCIDRs = append(c.ExcludeOutboundCIDRs, netip.PrefixFrom(four, 16+r.IntN(17)), netip.PrefixFrom(six, 16+r.IntN(100)))
	}
	return c
}

// sorted is how lists are read.
func sorted(c Captured) Captured {
	for _, ports := range []*[]uint16{&c.ExcludeInboundPorts, &c.ExcludeOutboundPorts} {
		*ports = slices.Compact(slices.Sorted(slices.Values(*ports)))
	}
	c.ExcludeOutboundCIDRs = slices.Compact(slices.SortedFunc(slices.Values(c.ExcludeOutboundCIDRs), netip.Prefix.Compare))
	return c
}

func randomRun(r *rand.Rand) Run {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	return Run{
		ControlPlane: pick("a:1", "[fd00::1]:15010"), IdentityAddress: pick("", "a:2"), LogLevel: pick("debug", "off"), LogAnswers: coin(r),
		Concurrency: r.IntN(5), ConfigScope: pick(append([]string{""}, fixed.ConfigScopes...)...), AwaitCapture: coin(r), CaptureByCNI: coin(r), Gateway: coin(r),
	}
}

func port(r *rand.Rand) uint16 { return 1 + uint16(r.UintN(65535)) }

func coin(r *rand.Rand) bool { return r.IntN(2) == 0 }
