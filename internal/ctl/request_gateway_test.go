package ctl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What a URL says of the connection and of the request, which a client would send with it.
func TestParseURL(t *testing.T) {
	for text, want := range map[string]request{
		"https://Shop.example.com":             {scheme: "https", serverName: "shop.example.com", port: 443, Request: mesh.Request{Method: "GET", Path: "/", Headers: map[string][]string{"host": {"Shop.example.com"}}}},
		"http://shop.example.com:80/a":         {scheme: "http", serverName: "shop.example.com", port: 80, Request: mesh.Request{Method: "GET", Path: "/a", Headers: map[string][]string{"host": {"shop.example.com"}}}},
		"PUT https://a:8443/a/./b/../c?x=/../": {scheme: "https", serverName: "a", port: 8443, Request: mesh.Request{Method: "PUT", Path: "/a/c?x=/../", Headers: map[string][]string{"host": {"a:8443"}}}},
		"https://[2001:db8::1]/a//b":           {scheme: "https", port: 443, Request: mesh.Request{Method: "GET", Path: "/a//b", Headers: map[string][]string{"host": {"[2001:db8::1]"}}}},
		"https://192.0.2.1:443/%2Fa":           {scheme: "https", port: 443, Request: mesh.Request{Method: "GET", Path: "/%2Fa", Headers: map[string][]string{"host": {"192.0.2.1"}}}},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := parseRequest(text, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.scheme != want.scheme || got.serverName != want.serverName || got.port != want.port || got.Method != want.Method || got.Path != want.Path ||
				got.Headers["host"][0] != want.Headers["host"][0] || got.Headers["x-forwarded-proto"][0] != want.scheme {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestHostOfRequest(t *testing.T) {
	for header, want := range map[string]string{"Shop.example.com": "shop.example.com", "a:8443": "a", "[2001:db8::1]:443": "2001:db8::1"} {
		if got := (request{Request: mesh.Request{Headers: map[string][]string{"host": {header}}}}).hostOf(); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

// Envoy shows the first certificate that is good for the server name.
func TestCertificateIsShown(t *testing.T) {
	v := gatewayView{builtGateway: builtGateway{assumed: sets.New(mesh.ID{Kind: mesh.KindSecret, Key: mesh.Key{Namespace: "edge", Name: "unread"}})}}
	v.model.Namespace, v.model.ServiceAccount = "edge", "public-mizzen"
	for name, hosts := range map[string][]string{"a": {"a.example.com"}, "wildcard": {"*.example.com", "example.com"}, "none": nil} {
		v.model.Secrets = append(v.model.Secrets, mesh.Secret{Name: v.model.CertificateName(mesh.Key{Namespace: "edge", Name: name}), Chain: certificateFor(t, hosts)})
	}
	for name, test := range map[string]struct {
		certificates     []string
		serverName, want string
		note             string
	}{
		"the only one":          {[]string{"edge/a"}, "a.example.com", "edge/a", ""},
		"the first that fits":   {[]string{"edge/a", "edge/wildcard"}, "b.example.com", "edge/wildcard", ""},
		"none fits":             {[]string{"edge/wildcard", "edge/a"}, "example.org", "edge/wildcard edge/a", `not for "example.org", so clients refuse it; it is for *.example.com, a.example.com, example.com`},
		"one without names":     {[]string{"edge/none"}, "a.example.com", "edge/none", `not for "a.example.com", so clients refuse it; it is for no host name`},
		"one is not known":      {[]string{"edge/unread", "edge/a"}, "a.example.com", "edge/unread edge/a", ""},
		"without a server name": {[]string{"edge/a"}, "", "edge/a", ""},
		"no certificate":        {nil, "a.example.com", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			out := requestView{Certificates: test.certificates}
			out.showCertificate(v, test.serverName)
			if got := strings.Join(out.Certificates, " "); got != test.want || out.CertificateNote != test.note {
				t.Errorf("got %q, %q\nwant %q, %q", got, out.CertificateNote, test.want, test.note)
			}
		})
	}
}

func certificateFor(t *testing.T, hosts []string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
