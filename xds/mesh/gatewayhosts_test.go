package mesh

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// listenerWith is a listener, named like its host name, with virtual hosts. Each has one rule of its own name, which matches
// "/<name>", or every request if the name ends with "!".
func listenerWith(hostname string, hosts ...string) Listener {
	l := Listener{Name: anyName(hostname), Hostname: hostname}
	own := false
	for _, text := range hosts {
		name := strings.TrimSuffix(text, "!")
		path := "/" + text
		if name != text {
			path = "/"
		}
		name = strings.Replace(name, "any", "", 1)
		own = own || name == hostname
		l.Hosts = append(l.Hosts, VirtualHost{Name: name, Rules: []Rule{{
			Origin: Origin{Name: text}, Match: Match{Path: TextMatch{Type: Prefix, Value: path}},
		}}})
	}
	if !own {
		l.Hosts = append(l.Hosts, VirtualHost{Name: hostname})
	}
	return l
}

func anyName(name string) string { return cmp.Or(name, "*") }

// written returns virtual hosts as "<name>: <rules>" or "<name>: 421".
func written(hosts []ServedHost) string {
	var out []string
	for _, h := range hosts {
		var rules []string
		for _, r := range h.Rules {
			rules = append(rules, r.Origin.Name)
		}
		if h.Misdirected {
			rules = []string{"421"}
		}
		out = append(out, fmt.Sprintf("%s: %s", anyName(h.Name), strings.Join(rules, " ")))
	}
	return strings.Join(out, "; ")
}

func TestHosts(t *testing.T) {
	all := listenerWith("", "any", "a.com", "*.com", "b.a.com")
	for name, test := range map[string]struct {
		chain, others []Listener
		want          string
	}{
		"one listener: less specific rules come after": {
			chain: []Listener{all},
			want:  "*: any; *.com: *.com any; a.com: a.com *.com any; b.a.com: b.a.com *.com any",
		},
		"nothing comes after a rule for every request": {
			chain: []Listener{listenerWith("", "any", "a.com", "*.com!")},
			want:  "*: any; *.com: *.com!; a.com: a.com *.com!",
		},
		"an exact name wins over a longer wildcard": {
			chain: []Listener{listenerWith("", "x.long.com", "*.long.com")},
			want:  "*: ; *.long.com: *.long.com; x.long.com: x.long.com *.long.com",
		},
		"listeners of one chain are isolated": {
			chain: []Listener{all, listenerWith("*.com"), listenerWith("a.com", "a.com")},
			want:  "*: any; *.com: ; a.com: a.com",
		},
		"a wildcard does not cover its own suffix": {
			chain: []Listener{listenerWith("", "a.com", "b.a.com"), listenerWith("*.a.com")},
			want:  "*: ; *.a.com: ; a.com: a.com",
		},
		"hosts of other chains are misdirected": {
			chain:  []Listener{listenerWith("*.com", "*.com", "a.com", "b.com")},
			others: []Listener{listenerWith("a.com"), listenerWith("")},
			want:   "*: 421; *.com: *.com; a.com: 421; b.com: b.com *.com",
		},
		"unknown hosts are not": {
			chain:  []Listener{listenerWith("a.com")},
			others: []Listener{listenerWith("b.com")},
			want:   "a.com: ; b.com: 421",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := written(Socket{Listeners: append(test.chain, test.others...)}.Hosts(test.chain)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// The socket's listeners decide which connection is whose: by the server name with TLS, together without.
func TestListenersForConnections(t *testing.T) {
	of := func(protocol gatewayv1.ProtocolType, names ...string) Socket {
		var s Socket
		for _, name := range names {
			l := listenerWith(strings.TrimPrefix(name, "any"))
			l.Protocol = protocol
			s.Listeners = append(s.Listeners, l)
		}
		return s
	}
	https, plain, bytes := of(gatewayv1.HTTPSProtocolType, "*.com", "a.com"), of(gatewayv1.HTTPProtocolType, "*.com", "any"), of(gatewayv1.TCPProtocolType, "any")
	mixed := Socket{Listeners: append(https.Listeners, of(gatewayv1.TLSProtocolType, "any").Listeners...)}
	for name, test := range map[string]struct {
		socket     Socket
		tls        bool
		serverName string
		want       string
	}{
		"the most specific":            {https, true, "a.com", "a.com"},
		"a wildcard":                   {https, true, "b.com", "*.com"},
		"none":                         {https, true, "a.org", ""},
		"no server name":               {https, true, "", ""},
		"no server name, any listener": {mixed, true, "", "*"},
		"the rest is passed through":   {mixed, true, "a.org", "*"},
		"plain text where TLS ends":    {https, false, "", ""},
		"plain text together":          {plain, false, "", "*.com *"},
		"TLS where plain text is":      {plain, true, "a.com", ""},
		"bytes":                        {bytes, true, "a.com", "*"},
		"bytes without TLS":            {bytes, false, "", "*"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, l := range test.socket.ListenersFor(test.tls, test.serverName) {
				got = append(got, l.Name)
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestHostOf(t *testing.T) {
	hosts := Socket{Listeners: []Listener{listenerWith("", "any", "*.com", "*.a.com", "b.a.com")}}.Hosts([]Listener{listenerWith("", "any", "*.com", "*.a.com", "b.a.com")})
	for name, want := range map[string]string{"b.a.com": "b.a.com", "c.a.com": "*.a.com", "c.b.a.com": "*.a.com", "a.com": "*.com", "com": "", "a.org": ""} {
		if got := HostOf(hosts, name); got == nil || got.Name != want {
			t.Errorf("%s: %+v, want %q", name, got, want)
		}
	}
	if got := HostOf(hosts[1:], "a.org"); got != nil {
		t.Errorf("a.org: %+v, want none", got)
	}
}

func TestConnectionRule(t *testing.T) {
	exact, wildcard := Rule{Match: serverName("a.com")}, Rule{Match: serverName("*.com")}
	l := Listener{Connections: []Rule{exact, wildcard}}
	for name, want := range map[string]*Rule{"a.com": &l.Connections[0], "b.com": &l.Connections[1], "a.org": nil, "": nil} {
		if got := l.ConnectionRule(name); got != want {
			t.Errorf("%q: %+v, want %+v", name, got, want)
		}
	}
	if l := (Listener{Connections: []Rule{{Match: everyConnection}}}); l.ConnectionRule("") == nil {
		t.Error("a TCPRoute takes no connection")
	}
}
