package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// The layouts that are compared.
const (
	none     = "none"
	httpHTTP = "http-http"
	httpL4   = "http-l4"
	mizzen   = "mizzen"
	// The same sidecars in a mesh with identities, of which the one calls an endpoint that has one. The calls
	// of "mizzen" are to an endpoint without, then.
	mizzenMTLS = "mizzen, mTLS"
)

// The server's application listens on two ports for each protocol: Mizzen's sidecar captures the
// first; the other, and the ports of bare Envoys, are excluded from capture.
const (
	capturedHTTP, capturedTCP = 8080, 9090
	plainHTTP, plainTCP       = 8081, 9091

	httpServiceIP, tcpServiceIP = "10.96.0.10", "10.96.0.11"
	httpMTLSIP, tcpMTLSIP       = "10.96.0.12", "10.96.0.13"

	// noPodIP is an address of the server's that no pod has, so that calls to it are in plain text.
	noPodIP = "10.88.0.4"
)

// layout is a way from the client to the server. TCP is empty where a layout is about HTTP only.
type layout struct {
	name      string
	http, tcp string
	proxies   []proxy
}

// proxy is a process whose processor time counts.
type proxy interface {
	CPU() (time.Duration, error)
	Stop()
}

// envoysOf returns the proxies of all layouts, some of which share them.
func envoysOf(layouts []*layout) layout {
	all := layout{}
	for _, l := range layouts {
		for _, p := range l.proxies {
			if !slices.Contains(all.proxies, p) {
				all.proxies = append(all.proxies, p)
			}
		}
	}
	return all
}

func (l *layout) stop() {
	for _, p := range l.proxies {
		p.Stop()
	}
}

func (l *layout) target(s scenario) string {
	if s.isTCP() {
		return l.tcp
	}
	return l.http
}

// bare are the Envoys of one layout without a control plane.
type bare struct {
	name string
	// serverHTTP puts a connection manager on the server's side, else bytes pass there.
	serverHTTP bool
	// Ports of the client's and the server's Envoy.
	clientHTTP, serverPort, clientTCP, serverTCP uint16
}

var bareLayouts = []bare{
	{httpHTTP, true, 18001, 18002, 0, 0},
	{httpL4, false, 18011, 18012, 18013, 18014},
}

// start makes the namespaces, the server's application and all proxies. All layouts live in the same
// namespaces, so each pays for connection tracking.
func start(mtls bool) ([]*layout, error) {
	excluded := []uint16{plainHTTP, plainTCP}
	if external != nil {
		excluded = append(excluded, external.Ports...)
	}
	for _, b := range bareLayouts {
		excluded = append(excluded, b.ports()...)
	}
	pods, err := world.NewPods(excluded...)
	if err != nil {
		return nil, err
	}
	if err := pods.Server.AddAddress(noPodIP + "/24"); err != nil {
		return nil, err
	}
	if err := startApplication(pods.Server); err != nil {
		return nil, err
	}
	layouts := []*layout{{name: none, http: addr(plainHTTP), tcp: addr(plainTCP)}}
	for _, b := range bareLayouts {
		l, err := b.start(pods)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
		layouts = append(layouts, l)
	}
	own, err := startMizzen(pods, mtls, excluded)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mizzen, err)
	}
	layouts = append(layouts, own...)
	if external != nil {
		pair, err := external.start(pods)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", external.Name, err)
		}
		layouts = append(layouts, pair)
	}
	return layouts, nil
}

func (b bare) ports() []uint16 {
	ports := []uint16{b.clientHTTP, b.serverPort}
	if b.clientTCP != 0 {
		ports = append(ports, b.clientTCP, b.serverTCP)
	}
	return ports
}

func addr(port uint16) string { return fmt.Sprintf("%s:%d", world.ServerIP, port) }

//go:embed bare.yaml
var bareYAML string

var bareTemplate = template.Must(template.New("bare.yaml").Option("missingkey=error").Parse(bareYAML))

// listener is one of a bare Envoy: what comes in at a port goes to an address.
type listener struct {
	HTTP     bool
	Port     uint16
	Upstream uint16
}

func (b bare) start(pods *world.Pods) (*layout, error) {
	client := []listener{{true, b.clientHTTP, b.serverPort}}
	server := []listener{{b.serverHTTP, b.serverPort, plainHTTP}}
	l := &layout{name: b.name, http: fmt.Sprintf("127.0.0.1:%d", b.clientHTTP)}
	if b.clientTCP != 0 {
		client = append(client, listener{false, b.clientTCP, b.serverTCP})
		server = append(server, listener{false, b.serverTCP, plainTCP})
		l.tcp = fmt.Sprintf("127.0.0.1:%d", b.clientTCP)
	}
	for _, side := range []struct {
		ns        world.NS
		listeners []listener
	}{{pods.Client, client}, {pods.Server, server}} {
		e, err := side.ns.StartEnvoy(1, func(dir string) ([]byte, error) {
			var out bytes.Buffer
			err := bareTemplate.Execute(&out, map[string]any{
				"Admin": world.AdminSocket(dir), "Server": world.ServerIP, "Listeners": side.listeners,
			})
			return out.Bytes(), err
		})
		if err != nil {
			return nil, err
		}
		l.proxies = append(l.proxies, e)
	}
	return l, nil
}

// startMizzen starts one control plane and the two sidecars, as the injector and the agent would.
func startMizzen(pods *world.Pods, mtls bool, excluded []uint16) ([]*layout, error) {
	cp, err := world.NewControlPlane(services(mtls), excluded...)
	if err != nil {
		return nil, err
	}
	var sidecars []proxy
	for _, side := range []struct {
		ns  world.NS
		pod string
	}{{pods.Client, "client"}, {pods.Server, "server"}} {
		pod, err := cp.Pod(side.pod)
		if err != nil {
			return nil, err
		}
		address, _, err := cp.Serve(side.ns)
		if err != nil {
			return nil, err
		}
		e, err := side.ns.StartEnvoy(1, func(dir string) ([]byte, error) {
			return world.JSON(side.ns.Bootstrap(context.Background(), dir, cp.ControlPlane, pod, address, nil))
		})
		if err != nil {
			return nil, err
		}
		sidecars = append(sidecars, e)
	}
	layouts := []*layout{{name: mizzen, http: httpServiceIP + ":80", tcp: tcpServiceIP + ":7", proxies: sidecars}}
	if mtls {
		layouts = append(layouts, &layout{name: mizzenMTLS, http: httpMTLSIP + ":80", tcp: tcpMTLSIP + ":7", proxies: sidecars})
	}
	return layouts, nil
}

// services are one for each protocol, and with identities the same once more.
func services(mtls bool) []world.Service {
	pair := func(suffix, endpoint, identity, httpIP, tcpIP string) []world.Service {
		return []world.Service{
			{Namespace: "bench", Name: "web" + suffix, IP: httpIP, Endpoints: []string{endpoint}, Identity: identity,
				Ports: []corev1.ServicePort{world.Port("http", 80, capturedHTTP)}},
			{Namespace: "bench", Name: "echo" + suffix, IP: tcpIP, Endpoints: []string{endpoint}, Identity: identity,
				Ports: []corev1.ServicePort{world.Port("tcp", 7, capturedTCP)}},
		}
	}
	if !mtls {
		return pair("", world.ServerIP, "", httpServiceIP, tcpServiceIP)
	}
	return append(pair("", noPodIP, mesh.PlainText, httpServiceIP, tcpServiceIP),
		pair("-mtls", world.ServerIP, mesh.SPIFFEID(world.TrustDomain, "bench", "server"), httpMTLSIP, tcpMTLSIP)...)
}
