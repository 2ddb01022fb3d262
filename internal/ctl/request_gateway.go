package ctl

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// defaultPorts of the schemes of URLs.
var defaultPorts = map[string]uint16{"http": 80, "https": 443}

// absolute reads the URL of a request to a Gateway. The gateway itself resolves "." and ".." in the path, and says the scheme.
func (r *request) absolute(u *url.URL) error {
	port, known := defaultPorts[u.Scheme]
	if !known {
		return fmt.Errorf("scheme %q; want http or https", u.Scheme)
	}
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("port %q; want 1 to 65535", text)
		}
		port = uint16(n)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("no host in %q", u)
	}
	r.scheme, r.port = u.Scheme, port
	if _, err := netip.ParseAddr(u.Hostname()); err != nil { // for an address clients send none
		r.serverName = strings.ToLower(u.Hostname())
	}
	resolved := u.ResolveReference(u)
	r.Path = cmp.Or(resolved.EscapedPath(), "/")
	if u.RawQuery != "" {
		r.Path += "?" + u.RawQuery
	}
	host := u.Host
	if port == defaultPorts[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+u.Port())
	}
	if len(r.Headers["host"]) == 0 {
		r.Headers["host"] = []string{host}
	}
	r.Headers["x-forwarded-proto"] = []string{u.Scheme}
	return nil
}

// hostOf returns the host name by which a request is routed.
func (r request) hostOf() string {
	host := strings.Join(r.Headers["host"], ",")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

// landing says where a request to the Gateway goes: which connection takes it, which listener, which virtual host and which rule.
func (w *world) landing(v gatewayView, r request) requestView {
	out := requestView{Request: r.text, Gateway: v.Namespace + "/" + v.Name, Port: r.port, namespace: v.Namespace}
	closed := func(format string, args ...any) requestView {
		out.Closed, out.Note = true, fmt.Sprintf(format, args...)
		return out
	}
	i := slices.IndexFunc(v.model.Sockets, func(s mesh.Socket) bool { return s.Port == r.port && !s.UDP })
	if i < 0 {
		return closed("%s", v.noPort(r.port))
	}
	socket := v.model.Sockets[i]
	encrypted := r.scheme == "https"
	chain := socket.ListenersFor(encrypted, r.serverName)
	switch {
	case len(chain) == 0 && !encrypted:
		return closed("the listeners of port %d take TLS alone: %s", r.port, v.listenersAt(r.port))
	case len(chain) == 0 && socket.Listeners[0].Protocol == gatewayv1.HTTPProtocolType:
		return closed("the listeners of port %d take no TLS: %s", r.port, v.listenersAt(r.port))
	case len(chain) == 0:
		return closed("no listener of port %d has the server name %q: %s", r.port, r.serverName, v.listenersAt(r.port))
	}
	if p := chain[0].Protocol; p != gatewayv1.HTTPProtocolType && p != gatewayv1.HTTPSProtocolType {
		return w.passed(v, chain[0], r, out)
	}
	host := mesh.HostOf(socket.Hosts(chain), r.hostOf())
	taker, found := mesh.ListenerOf(chain, r.hostOf())
	if encrypted {
		taker = chain[0]
	}
	out.by = fmt.Sprintf(", by the host name %s", r.hostOf())
	if encrypted {
		out.by = byServerName(r.serverName)
	}
	out.listen(v, taker, found || encrypted)
	out.showCertificate(v, r.serverName)
	switch {
	case host == nil:
		out.Status, out.Note = http.StatusNotFound, fmt.Sprintf("no listener of this connection has the host name %q", r.hostOf())
	case host.Misdirected:
		owner, _ := mesh.ListenerOf(socket.Listeners, r.hostOf())
		out.Status = http.StatusMisdirectedRequest
		out.Note = fmt.Sprintf("the host name %q is that of listener %s, but the connection, with the server name %q, is that of listener %s", r.hostOf(), owner.Name, r.serverName, taker.Name)
	default:
		out.Host = cmp.Or(host.Name, anyHost)
		out.group = w.gatewayGroup(v, groupView{rules: host.Rules})
		if len(host.Rules) == 0 {
			out.Status, out.Note = http.StatusNotFound, fmt.Sprintf("no route at listener %s has the host name %q", taker.Name, r.hostOf())
			return out
		}
		out.try(r.Request)
	}
	return out
}

func byServerName(name string) string {
	if name == "" {
		return ", for clients without a server name"
	}
	return ", by the server name " + name
}

// passed says where a connection goes whose bytes a listener passes on.
func (w *world) passed(v gatewayView, l mesh.Listener, r request, out requestView) requestView {
	out.listen(v, l, true)
	name := ""
	if l.Protocol == gatewayv1.TLSProtocolType {
		name, out.by = r.serverName, byServerName(r.serverName)
		out.showCertificate(v, r.serverName)
	}
	met := l.ConnectionRule(name)
	if met == nil {
		out.Closed, out.Note = true, fmt.Sprintf("no route at listener %s takes the connection", l.Name)
		return out
	}
	out.group = w.gatewayGroup(v, groupView{Connections: true, rules: []mesh.Rule{*met}})
	out.Tried = []triedView{{Order: 1, Route: out.group.Rules[0].Route, Rule: met.Origin.Rule}}
	out.Met = &out.group.Rules[0]
	return out
}

// listen notes the listener.
func (out *requestView) listen(v gatewayView, l mesh.Listener, found bool) {
	i := slices.IndexFunc(v.Listeners, func(o listenerView) bool { return o.Name == l.Name })
	if found && i >= 0 {
		out.listener = &v.Listeners[i]
		out.Listener, out.Certificates = l.Name, v.Listeners[i].Certificates
	}
}

// noPort says why nothing listens on a port.
func (v gatewayView) noPort(port uint16) string {
	var ports, reasons []string
	for _, l := range v.Listeners {
		at := fmt.Sprintf("%d (%s)", l.Port, l.Name)
		switch {
		case l.Port == port && l.NotServed != "":
			reasons = append(reasons, fmt.Sprintf("listener %s is not served: %s", l.Name, l.NotServed))
		case l.Port == port: // over UDP
			reasons = append(reasons, fmt.Sprintf("listener %s takes UDP alone", l.Name))
		case l.NotServed == "":
			ports = append(ports, at)
		}
	}
	if len(reasons) > 0 {
		return strings.Join(reasons, "; ")
	}
	return fmt.Sprintf("no listener at port %d; the Gateway has %s", port, cmp.Or(strings.Join(ports, ", "), "none"))
}

// listenersAt lists the listeners of a port.
func (v gatewayView) listenersAt(port uint16) string {
	var texts []string
	for _, l := range v.Listeners {
		if l.Port == port && l.NotServed == "" {
			texts = append(texts, fmt.Sprintf("%s (%s)", l.Name, strings.Join(strings.Fields(listenerText(l)), " ")))
		}
	}
	return strings.Join(texts, ", ")
}
