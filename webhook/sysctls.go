package webhook

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html
const (
	localPortRange     = "net.ipv4.ip_local_port_range"
	localReservedPorts = "net.ipv4.ip_local_reserved_ports"
)

// reservePorts reserves the sidecar's ports if the pod's range of local ports contains them. Otherwise a connection of
// the application could get such a port, and a restarted sidecar could not listen on it. Both settings are safe
// sysctls, which every Pod Security Standard allows.
func reservePorts(spec *corev1.PodSpec, report *Report) {
	if spec.SecurityContext == nil {
		return
	}
	var wide bool
	reserved := -1
	for i, s := range spec.SecurityContext.Sysctls {
		switch s.Name {
		case localPortRange:
			wide = slices.ContainsFunc(reservedPorts, func(port int32) bool { return inRange(strings.Fields(s.Value), port) })
		case localReservedPorts:
			reserved = i
		}
	}
	switch {
	case !wide:
	case reserved < 0:
		spec.SecurityContext.Sysctls = append(spec.SecurityContext.Sysctls, corev1.Sysctl{Name: localReservedPorts, Value: joinPorts(reservedPorts)})
	default:
		value := spec.SecurityContext.Sysctls[reserved].Value
		if free := unreserved(value); len(free) > 0 {
			report.Warnings = append(report.Warnings, fmt.Sprintf(
				"spec.securityContext.sysctls[%d]: %s: %q: want %s in the list, too, because %s allows connections of the application to use ports of the sidecar",
				reserved, localReservedPorts, value, joinPorts(free), localPortRange))
		}
	}
}

// inRange reports whether a port is in a range. An invalid range contains no port; the kubelet refuses it.
func inRange(ends []string, port int32) bool {
	if len(ends) == 0 || len(ends) > 2 {
		return false
	}
	low, err := strconv.Atoi(ends[0])
	high, errHigh := strconv.Atoi(ends[len(ends)-1])
	return err == nil && errHigh == nil && low <= int(port) && int(port) <= high
}

// unreserved returns the sidecar's ports that a list such as "8080,9000-9100" lacks.
func unreserved(list string) []int32 {
	var free []int32
	for _, port := range reservedPorts {
		found := false
		for part := range strings.SplitSeq(list, ",") {
			found = found || inRange(strings.Split(strings.TrimSpace(part), "-"), port)
		}
		if !found {
			free = append(free, port)
		}
	}
	return free
}

func joinPorts(ports []int32) string {
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}
