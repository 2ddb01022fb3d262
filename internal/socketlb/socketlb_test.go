package socketlb

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// The test's binary is also the program whose connections are translated: its arguments are addresses.
func TestMain(m *testing.M) {
	if os.Getenv("SOCKETLB_ASK") == "" {
		os.Exit(m.Run())
	}
	for _, address := range os.Args[1:] {
		translated, err := Translates(context.Background(), address)
		fmt.Println(address, translated, err)
	}
}

// A real program at cgroup/connect4 and connect6, as Cilium and Calico have them, and one process in its cgroup.
func TestTranslates(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cgroups and BPF need root")
	}
	pod4, pod6 := listen(t, "127.0.0.1:0"), listen(t, "[::1]:0")
	// Somebody answers at the IPv4 address, too: a connection that was refused is gone before it can be looked at.
	service4, service6 := listen(t, "127.77.0.1:0"), netip.MustParseAddrPort("[2001:db8::77]:80")
	bind(t)
	group := cgroup(t)
	attach(t, group, ebpf.AttachCGroupInet4Connect, translate(service4, pod4))
	attach(t, group, ebpf.AttachCGroupInet6Connect, translate(service6, pod6))

	asked := []string{service4.String(), service6.String(), pod4.String(), pod6.String()}
	for _, c := range []struct {
		name string
		into *os.File
		want map[string]bool
	}{
		{"in the cgroup", group, map[string]bool{service4.String(): true, service6.String(): true}},
		{"beside it", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", asked...)
			cmd.Env = append(os.Environ(), "SOCKETLB_ASK=1")
			if c.into != nil {
				cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(c.into.Fd())}
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
				want := fmt.Sprintf("%s %t <nil>", asked[i], c.want[asked[i]])
				// Without translation there may be no route to the IPv6 address.
				if line != want && !strings.HasSuffix(line, "network is unreachable") {
					t.Errorf("got  %s\nwant %s", line, want)
				}
			}
		})
	}
}

func TestTranslatesNoAddress(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:nothing", "no-such-name.invalid:80"} {
		if translated, err := Translates(t.Context(), address); err == nil || translated {
			t.Errorf("%q: %t, %v, want an error", address, translated, err)
		}
	}
}

func listen(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// bind leaves a socket that is bound and does not listen. Since Linux 6.8 the kernel tells of it whichever port it is asked for.
func bind(t *testing.T) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
}

// cgroup makes one of its own, which goes away with the test.
func cgroup(t *testing.T) *os.File {
	t.Helper()
	root := t.TempDir()
	if err := syscall.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	dir := filepath.Join(root, fmt.Sprintf("mizzen-socketlb-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func attach(t *testing.T, group *os.File, at ebpf.AttachType, code asm.Instructions) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: at, License: "Apache-2.0", Instructions: code})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: group.Name(), Attach: at, Program: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// Offsets in struct bpf_sock_addr (linux/bpf.h).
const userIP4, userIP6, userPort = 4, 8, 24

// translate exchanges one destination for another, all in the network's byte order.
func translate(from, to netip.AddrPort) asm.Instructions {
	words := func(a netip.AddrPort) (offset int16, out []int32) {
		offset = userIP4
		if a.Addr().Is6() {
			offset = userIP6
		}
		for b := a.Addr().AsSlice(); len(b) > 0; b = b[4:] {
			out = append(out, int32(binary.NativeEndian.Uint32(b)))
		}
		return offset, out
	}
	code := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	offset, old := words(from)
	for i, w := range old {
		code = append(code, asm.LoadMem(asm.R2, asm.R6, offset+int16(4*i), asm.Word), asm.LoadImm(asm.R3, int64(uint32(w)), asm.DWord), asm.JNE.Reg(asm.R2, asm.R3, "done"))
	}
	_, now := words(to)
	for i, w := range now {
		code = append(code, asm.Mov.Imm(asm.R3, w), asm.StoreMem(asm.R6, offset+int16(4*i), asm.R3, asm.Word))
	}
	port := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, to.Port()))
	return append(code,
		asm.Mov.Imm(asm.R3, int32(port)), asm.StoreMem(asm.R6, userPort, asm.R3, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("done"), asm.Return(),
	)
}
