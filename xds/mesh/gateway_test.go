package mesh

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Each Secret that Envoy would refuse costs its listener alone, and says why without the key.
func TestCertificates(t *testing.T) {
	ec := func(c elliptic.Curve) crypto.Signer { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	good, other := certificate(t, ec(elliptic.P256()), time.Hour), certificate(t, ec(elliptic.P256()), time.Hour)
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	for _, c := range []struct {
		name   string
		secret *corev1.Secret
		want   string // in the message; empty for a certificate that is served
	}{
		{"ECDSA P-256", good, ""},
		{"RSA 2048", certificate(t, must(rsa.GenerateKey(rand.Reader, 2048)), time.Hour), ""},
		{"expired", certificate(t, ec(elliptic.P384()), -time.Minute), ""},
		{"none", nil, "Secret edge/shop of type kubernetes.io/tls does not exist"},
		{"another type", with(good, func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }), `type: "Opaque": want kubernetes.io/tls`},
		{"no key", with(good, func(s *corev1.Secret) { delete(s.Data, corev1.TLSPrivateKeyKey) }), "data[tls.key]: want PEM"},
		{"no PEM", with(good, func(s *corev1.Secret) { s.Data[corev1.TLSCertKey] = []byte("secret text") }), "want a certificate in tls.crt"},
		{"another's key", with(good, func(s *corev1.Secret) { s.Data[corev1.TLSPrivateKeyKey] = other.Data[corev1.TLSPrivateKeyKey] }), "private key does not match"},
		{"RSA 1024", certificate(t, weak, time.Hour), "1024 bits: want 2048 or more"},
		{"P-224", certificate(t, ec(elliptic.P224()), time.Hour), "curve P-224: want P-256"},
		{"Ed25519", certificate(t, edwards, time.Hour), "want RSA or ECDSA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := gatewayInputs(httpsListener("https"), listenerOf("http", 80, gatewayv1.HTTPProtocolType, ""))
			if c.secret != nil {
				in.Secrets = map[Key]*corev1.Secret{{"edge", "shop"}: c.secret}
			}
			gw, statuses, _ := BuildGateway(in)
			refs := conditionOf(t, statuses, "https", gatewayv1.ListenerConditionResolvedRefs)
			if (c.want == "") != refs.True || !strings.Contains(refs.Message, c.want) {
				t.Errorf("ResolvedRefs is %t: %s; want %q", refs.True, refs.Message, c.want)
			}
			if said := strings.Contains(refs.Message, "the certificate of Secret edge/shop expires at 20"); said != refs.True {
				t.Errorf("the message says when the certificate expires: %t: %s", said, refs.Message)
			}
			if strings.Contains(refs.Message, "secret text") {
				t.Errorf("the message has the content: %s", refs.Message)
			}
			ports := []uint16{80}
			if c.want == "" {
				ports = append(ports, 443)
			}
			if got := portsOf(gw); !slices.Equal(got, ports) {
				t.Errorf("served ports: %v, want %v", got, ports)
			}
		})
	}
}

// In a mesh without identities no private key is sent.
func TestNoKeysWithoutIdentities(t *testing.T) {
	in := gatewayInputs(httpsListener("https"))
	in.Secrets = map[Key]*corev1.Secret{{"edge", "shop"}: certificate(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), time.Hour)}
	in.NoIdentities = true
	gw, statuses, _ := BuildGateway(in)
	if len(gw.Secrets) > 0 || len(gw.Sockets) > 0 {
		t.Errorf("secrets %d, sockets %d, want none", len(gw.Secrets), len(gw.Sockets))
	}
	if c := conditionOf(t, statuses, "https", gatewayv1.ListenerConditionAccepted); c.True || !strings.Contains(c.Message, "mesh without identities") {
		t.Errorf("Accepted is %t: %s", c.True, c.Message)
	}
}

// Which listeners lose: all of one object that cannot be told apart, and those of ListenerSets to what came before.
func TestConflicts(t *testing.T) {
	http, tcp, udp := gatewayv1.HTTPProtocolType, gatewayv1.TCPProtocolType, gatewayv1.UDPProtocolType
	http3 := withOption(httpsListener("h3"), "mizzen.dev/http3", "true")
	for _, c := range []struct {
		name    string
		gateway []gatewayv1.Listener
		sets    [][]gatewayv1.Listener
		want    []string // "<listener> <reason>", of the Gateway and then of the sets
	}{
		{"distinct", []gatewayv1.Listener{listenerOf("a", 80, http, ""), listenerOf("b", 80, http, "b.com"), listenerOf("c", 81, tcp, ""), listenerOf("d", 81, udp, "")}, nil, nil},
		{"protocols", []gatewayv1.Listener{listenerOf("a", 80, http, ""), listenerOf("b", 80, tcp, "")}, nil, []string{"a ProtocolConflict", "b ProtocolConflict"}},
		{"hostnames", []gatewayv1.Listener{listenerOf("a", 80, http, "a.com"), listenerOf("b", 80, http, "A.com")}, nil, []string{"a HostnameConflict", "b HostnameConflict"}},
		{"the Gateway wins", []gatewayv1.Listener{listenerOf("a", 80, http, "a.com")}, [][]gatewayv1.Listener{{listenerOf("b", 80, http, "a.com")}}, []string{"b HostnameConflict"}},
		{
			"one that has lost takes no sibling along", []gatewayv1.Listener{listenerOf("a", 80, http, "a.com")},
			[][]gatewayv1.Listener{{listenerOf("b", 80, http, "b.com"), listenerOf("c", 80, tcp, "")}}, []string{"c ProtocolConflict"},
		},
		{
			"nor a later ListenerSet", []gatewayv1.Listener{listenerOf("a", 80, http, "a.com")},
			[][]gatewayv1.Listener{{listenerOf("b", 80, tcp, "")}, {listenerOf("c", 80, http, "c.com")}}, []string{"b ProtocolConflict"},
		},
		{"UDP beside HTTPS", []gatewayv1.Listener{httpsListener("a"), listenerOf("b", 443, udp, "")}, nil, nil},
		{"UDP beside HTTP/3", []gatewayv1.Listener{http3, listenerOf("b", 443, udp, "")}, nil, []string{"h3 ProtocolConflict", "b ProtocolConflict"}},
		{"HTTP/3 at the UDP port of the Gateway", []gatewayv1.Listener{listenerOf("b", 443, udp, "")}, [][]gatewayv1.Listener{{http3}}, []string{"h3 ProtocolConflict"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := gatewayInputs(c.gateway...)
			in.Gateway.Spec.AllowedListeners = &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: new(gatewayv1.NamespacesFromAll)}}
			for i, listeners := range c.sets {
				set := &gatewayv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: fmt.Sprint("set-", i)}}
				set.Spec.ParentRef.Name = "public"
				for _, l := range listeners {
					set.Spec.Listeners = append(set.Spec.Listeners, gatewayv1.ListenerEntry(l))
				}
				in.ListenerSets = append(in.ListenerSets, set)
			}
			_, statuses, _ := BuildGateway(in)
			var got []string
			for _, s := range statuses {
				for _, l := range s.Gateway.Listeners {
					for _, condition := range l.Conditions {
						if condition.Type == gatewayv1.RouteConditionType(gatewayv1.ListenerConditionConflicted) && condition.True {
							got = append(got, fmt.Sprintf("%s %s", l.Name, condition.Reason))
						}
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("conflicts: %v, want %v", got, c.want)
			}
		})
	}
}

// A host name at a listener belongs to HTTPRoutes or to GRPCRoutes: the older one decides.
func TestOneKindForAHostname(t *testing.T) {
	in := gatewayInputs(listenerOf("a", 80, gatewayv1.HTTPProtocolType, ""), listenerOf("b", 81, gatewayv1.HTTPProtocolType, ""))
	meta := func(name string, second int64) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "edge", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(second, 0))}
	}
	parent := func(section string) gatewayv1.CommonRouteSpec {
		return gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "public", SectionName: new(gatewayv1.SectionName(section))}}}
	}
	for i, host := range []gatewayv1.Hostname{"*.example.com", "other.com"} {
		in.Routes.HTTPRoutes = append(in.Routes.HTTPRoutes, &gatewayv1.HTTPRoute{
			ObjectMeta: meta(fmt.Sprint("http-", i), 2), Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: parent("a"), Hostnames: []gatewayv1.Hostname{host}},
		})
	}
	for name, at := range map[string]struct {
		section string
		host    gatewayv1.Hostname
		second  int64
	}{"newer": {"a", "shop.example.com", 3}, "older": {"a", "other.com", 1}, "apart": {"a", "apart.com", 3}, "elsewhere": {"b", "shop.example.com", 3}} {
		in.Routes.GRPCRoutes = append(in.Routes.GRPCRoutes, &gatewayv1.GRPCRoute{
			ObjectMeta: meta(name, at.second), Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: parent(at.section), Hostnames: []gatewayv1.Hostname{at.host}},
		})
	}
	_, statuses, _ := BuildGateway(in)
	var refused []string
	for _, s := range statuses[1:] {
		if c := s.Conditions[0]; !c.True {
			refused = append(refused, fmt.Sprintf("%s %s", s.Object.Name, c.Reason))
		}
	}
	slices.Sort(refused)
	if want := []string{"http-1 Conflicted", "newer Conflicted"}; !slices.Equal(refused, want) {
		t.Errorf("refused: %v, want %v", refused, want)
	}
	for i, want := range []int32{3, 1} {
		if got := statuses[0].Gateway.Listeners[i].AttachedRoutes; got != want {
			t.Errorf("listener %d: %d routes, want %d", i, got, want)
		}
	}
}

func TestBindPort(t *testing.T) {
	taken := map[uint16]int{}
	for port := range 1 << 16 {
		bind, ok := BindPort(uint16(port))
		switch {
		case !ok:
			if port != 0 && port < firstShifted && port != config.AgentPort {
				t.Errorf("port %d cannot be had", port)
			}
		case bind < privileged || bind == config.AgentPort:
			t.Errorf("port %d: the pods listen on %d", port, bind)
		case taken[bind] != 0:
			t.Errorf("ports %d and %d: the pods listen on %d for both", taken[bind], port, bind)
		default:
			taken[bind] = port
		}
	}
}

// gatewayInputs is a Gateway with listeners and nothing else.
func gatewayInputs(listeners ...gatewayv1.Listener) GatewayInputs {
	gw := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "public", Generation: 1}}
	gw.Spec.GatewayClassName, gw.Spec.Listeners = "mizzen", listeners
	return GatewayInputs{Gateway: gw, Namespaces: map[string]labels.Set{"edge": {}}}
}

func listenerOf(name string, port int32, protocol gatewayv1.ProtocolType, host string) gatewayv1.Listener {
	l := gatewayv1.Listener{Name: gatewayv1.SectionName(name), Port: port, Protocol: protocol}
	if host != "" {
		l.Hostname = new(gatewayv1.Hostname(host))
	}
	return l
}

func httpsListener(name string) gatewayv1.Listener {
	l := listenerOf(name, 443, gatewayv1.HTTPSProtocolType, "")
	l.TLS = &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "shop"}}}
	return l
}

func withOption(l gatewayv1.Listener, key, value string) gatewayv1.Listener {
	l.TLS = l.TLS.DeepCopy()
	if l.TLS.Options == nil {
		l.TLS.Options = map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{}
	}
	l.TLS.Options[gatewayv1.AnnotationKey(key)] = gatewayv1.AnnotationValue(value)
	return l
}

// conditionOf returns a condition of a listener of the Gateway.
func conditionOf(t *testing.T, statuses []Status, listener string, kind gatewayv1.ListenerConditionType) Condition {
	t.Helper()
	for _, l := range statuses[0].Gateway.Listeners {
		for _, c := range l.Conditions {
			if string(l.Name) == listener && c.Type == gatewayv1.RouteConditionType(kind) {
				return c
			}
		}
	}
	t.Fatalf("listener %s has no condition %s", listener, kind)
	return Condition{}
}

func portsOf(gw Gateway) []uint16 {
	var out []uint16
	for _, s := range gw.Sockets {
		out = append(out, s.Port)
	}
	return out
}

// certificate is a Secret as cert-manager writes it; the certificate ends after some time.
func certificate(t *testing.T, key crypto.Signer, ends time.Duration) *corev1.Secret {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(ends)}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "shop"}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}),
	}}
}

func with(o *corev1.Secret, change func(*corev1.Secret)) *corev1.Secret {
	out := o.DeepCopy()
	change(out)
	return out
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
