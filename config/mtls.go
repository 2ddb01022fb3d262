package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// MTLSMode says which connections a pod accepts.
type MTLSMode string

// The modes.
const (
	// Permissive accepts mTLS of the mesh and everything else.
	Permissive MTLSMode = "permissive"
	// Strict accepts only mTLS of the mesh.
	Strict MTLSMode = "strict"
)

// MTLSModes are all modes.
var MTLSModes = []MTLSMode{Permissive, Strict}

const (
	wantMTLSMode  = "permissive or strict"
	wantMTLSPorts = "PORT=MODE, separated by commas, each port once, from 1 to 65535, the mode permissive or strict, such as 8080=strict,9090=permissive"
)

// MTLS has the settings for a pod's inbound connections from the annotations of a namespace or a pod. The zero value
// sets nothing.
type MTLS struct {
	// Mode is empty if it is not set.
	Mode MTLSMode
	// Ports are the modes of single ports, by the number on which the container listens.
	Ports map[uint16]MTLSMode
	// ForwardCert are the ports, ascending, at which the application learns the caller's certificate.
	ForwardCert []uint16
}

// Over returns the pod's settings, completed by those of its namespace. If the pod sets any mode, even of some ports
// only, the namespace's modes do not apply.
func (m MTLS) Over(namespace MTLS) MTLS {
	if m.Mode == "" && m.Ports == nil {
		m.Ports = namespace.Ports
	}
	m.Mode = cmp.Or(m.Mode, namespace.Mode)
	if m.ForwardCert == nil {
		m.ForwardCert = namespace.ForwardCert
	}
	return m
}

// On reports whether sidecars have identities.
func (m MeshMTLS) On() bool { return m.TrustDomain != "" }

// MTLSOf reads the annotations of a namespace or a pod. Bad annotations are not in the result but in the errors, in the
// order of the keys. SidecarFor reports unknown keys.
func MTLSOf(on Object, annotations map[string]string) (MTLS, []KeyError) {
	var out MTLS
	var errs []KeyError
	for _, name := range sortedKeys(annotations) {
		i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name && k.setMTLS != nil && slices.Contains(k.On, on) })
		if i >= 0 && !Keys[i].setMTLS(&out, annotations[name]) {
			errs = append(errs, KeyError{Annotation, name, annotations[name], Keys[i].Values})
		}
	}
	return out, errs
}

func validMTLSMode(text string) bool { return slices.Contains(MTLSModes, MTLSMode(text)) }

func setMTLSMode(m *MTLS, value string) bool {
	if validMTLSMode(value) {
		m.Mode = MTLSMode(value)
	}
	return validMTLSMode(value)
}

func setForwardClientCert(m *MTLS, value string) bool {
	var ports []uint16
	for _, item := range splitList(value) {
		port, err := strconv.ParseUint(item, 10, 16)
		if err != nil || port == 0 {
			return false
		}
		ports = append(ports, uint16(port))
	}
	slices.Sort(ports)
	m.ForwardCert = slices.Compact(ports)
	return len(ports) > 0
}

func setMTLSPorts(m *MTLS, value string) bool {
	ports := map[uint16]MTLSMode{}
	for _, item := range splitList(value) {
		number, mode, _ := strings.Cut(item, "=")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 || ports[uint16(port)] != "" || !validMTLSMode(mode) {
			return false
		}
		ports[uint16(port)] = MTLSMode(mode)
	}
	if len(ports) == 0 {
		return false
	}
	m.Ports = ports
	return true
}
