package config

import (
	"slices"
	"strconv"
	"strings"
)

// MTLSMode says which connections a pod takes.
type MTLSMode string

// The modes.
const (
	// Permissive takes mTLS of the mesh and all else, as it comes.
	Permissive MTLSMode = "permissive"
	// Strict takes mTLS of the mesh alone.
	Strict MTLSMode = "strict"
)

// MTLSModes are all of them.
var MTLSModes = []MTLSMode{Permissive, Strict}

const (
	wantMTLSMode  = "permissive or strict"
	wantMTLSPorts = "PORT=MODE, separated by commas, each port once, from 1 to 65535, the mode permissive or strict, such as 8080=strict,9090=permissive"
)

// MTLS is what annotations of a namespace or a pod say about the connections that a pod takes. The zero
// value says nothing.
type MTLS struct {
	// Mode is empty where it is not said.
	Mode MTLSMode
	// Ports are those with a mode of their own, by the number that the container listens on.
	Ports map[uint16]MTLSMode
}

// MeshMTLS is mTLS for the whole mesh.
type MeshMTLS struct {
	// TrustDomain is that of the SPIFFE IDs of the mesh, such as "cluster.local"; empty turns mTLS off.
	TrustDomain string
	// Mode is what holds where neither pod nor namespace say anything; Permissive if empty.
	Mode MTLSMode
}

// On reports whether sidecars have identities.
func (m MeshMTLS) On() bool { return m.TrustDomain != "" }

// MTLSOf reads the annotations of a namespace or a pod. What is wrong is left out of the result and told in
// the order of the keys. Keys that it does not know are for others to tell (SidecarFor).
func MTLSOf(on Object, annotations map[string]string) (MTLS, []KeyError) {
	var out MTLS
	var errs []KeyError
	for _, name := range sortedKeys(annotations) {
		i := slices.IndexFunc(mtlsKeys, func(k Key) bool { return k.Name == name && slices.Contains(k.On, on) })
		if i >= 0 && !mtlsKeys[i].setMTLS(&out, annotations[name]) {
			errs = append(errs, KeyError{Annotation, name, annotations[name], mtlsKeys[i].Values})
		}
	}
	return out, errs
}

// mtlsKeys join Keys, and with it the reference and the pods that are let in, as soon as they are read from
// the cluster; until then a pod with one is refused as with any unknown key.
var mtlsKeys = []Key{
	{
		Name: AnnotationMTLS, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMTLSMode, Default: "the mode of the mesh; a pod without it follows its namespace",
		Doc: "Which connections a pod takes: those with mTLS of the mesh alone (strict), or plain text and the application's own TLS " +
			"beside them (permissive). The pod's annotation wins over the namespace's, and that over the mesh's.",
		setMTLS: setMTLSMode,
	},
	{
		Name: AnnotationMTLSPorts, Kind: Annotation, On: []Object{OnPod},
		Values: wantMTLSPorts, Default: "the mode of the pod",
		Doc:     "The mode of single ports of a pod, by the number that the container listens on.",
		setMTLS: setMTLSPorts,
	},
}

func validMTLSMode(text string) bool { return slices.Contains(MTLSModes, MTLSMode(text)) }

func setMTLSMode(m *MTLS, value string) bool {
	if validMTLSMode(value) {
		m.Mode = MTLSMode(value)
	}
	return validMTLSMode(value)
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
