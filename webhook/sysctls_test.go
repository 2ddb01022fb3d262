package webhook

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestReservePorts(t *testing.T) {
	const ours = "15001,15006,15020"
	ports := func(value string) corev1.Sysctl { return corev1.Sysctl{Name: localPortRange, Value: value} }
	reserved := func(value string) corev1.Sysctl {
		return corev1.Sysctl{Name: localReservedPorts, Value: value}
	}
	for name, c := range map[string]struct {
		sysctls []corev1.Sysctl
		added   bool
		warning string
	}{
		"no sysctls":                   {nil, false, ""},
		"another":                      {[]corev1.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "1"}}, false, ""},
		"the kernel's range":           {[]corev1.Sysctl{ports("32768 60999")}, false, ""},
		"a wide range":                 {[]corev1.Sysctl{ports("1024 65535")}, true, ""},
		"with a tab, as sysctl says":   {[]corev1.Sysctl{ports("1024\t65535")}, true, ""},
		"one port of the sidecar":      {[]corev1.Sysctl{ports("15020 20000")}, true, ""},
		"just above":                   {[]corev1.Sysctl{ports("15021 20000")}, false, ""},
		"no range":                     {[]corev1.Sysctl{ports("wide")}, false, ""},
		"all reserved already":         {[]corev1.Sysctl{reserved("8080, 15000-15100"), ports("1024 65535")}, false, ""},
		"some reserved":                {[]corev1.Sysctl{ports("1024 65535"), reserved("8080,15001")}, false, `sysctls[1]: net.ipv4.ip_local_reserved_ports: "8080,15001": want 15006,15020 in the list`},
		"others reserved, none needed": {[]corev1.Sysctl{reserved("8080")}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{Sysctls: slices.Clone(c.sysctls)}}
			var report Report
			reservePorts(&spec, &report)
			want := c.sysctls
			if c.added {
				want = append(slices.Clone(want), reserved(ours))
			}
			if got := spec.SecurityContext.Sysctls; !slices.Equal(got, want) {
				t.Errorf("sysctls %v, want %v", got, want)
			}
			if said := strings.Join(report.Warnings, "; "); (said == "") != (c.warning == "") || !strings.Contains(said, c.warning) {
				t.Errorf("warnings %q, want %q", said, c.warning)
			}
		})
	}
}
