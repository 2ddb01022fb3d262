package e2e

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	identityapi "github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// trustDomain is the chart's default.
const trustDomain = "cluster.local"

// controlPlaneHost is the control plane's Service.
const controlPlaneHost = "mizzen-controller." + cluster.SystemNamespace + ".svc"

// workload is a pod as its certificate names it.
type workload struct {
	cluster.Pod
	uid, account, ip string
}

func (e *env) workload(p cluster.Pod) workload {
	e.Helper()
	pod, err := e.CoreV1().Pods(p.Namespace).Get(e.ctx, p.Name, metav1.GetOptions{})
	e.must(err)
	return workload{Pod: p, uid: string(pod.UID), account: pod.Spec.ServiceAccountName, ip: pod.Status.PodIP}
}

func (w workload) id() spiffe.ID {
	return spiffe.ID{TrustDomain: trustDomain, Namespace: w.Namespace, ServiceAccount: w.account}
}

// address of a port of the pod.
func (w workload) address(port int) string { return net.JoinHostPort(w.ip, strconv.Itoa(port)) }

// node is what the pod's sidecar says of itself on the ADS stream.
func (w workload) node() node.Node {
	return node.Node{Namespace: w.Namespace, Pod: w.Name, UID: w.uid, ServiceAccount: w.account, Version: "dev"}
}

// token makes one as the kubelet does for the pod; without an audience it is for the API server.
func (e *env) token(w workload, audiences ...string) string {
	e.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: audiences, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.Name, UID: types.UID(w.uid)},
	}}
	if w.uid == "" {
		request.Spec.BoundObjectRef = nil
	}
	t, err := e.CoreV1().ServiceAccounts(w.Namespace).CreateToken(e.ctx, w.account, request, metav1.CreateOptions{})
	e.must(err)
	return t.Status.Token
}

// newKey makes one as the agent does.
func (e *env) newKey() *ecdsa.PrivateKey {
	e.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	e.must(err)
	return key
}

// signingRequest is for the identity server; uri may be none.
func (e *env) signingRequest(key crypto.Signer, uri string) []byte {
	e.Helper()
	template := &x509.CertificateRequest{}
	if uri != "" {
		u, err := url.Parse(uri)
		e.must(err)
		template.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	e.must(err)
	body, err := json.Marshal(identityapi.CertificateRequest{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
	e.must(err)
	return body
}

// certificateCall asks the identity server for a certificate.
func certificateCall(token string, body []byte) api.Call {
	c := api.Call{
		Kind: api.HTTP, Target: fmt.Sprintf("https://%s:%d%s", controlPlaneHost, config.IdentityPort, identityapi.CertificatePath),
		Method: "POST", Content: body, TLS: &api.ClientTLS{ServerName: controlPlaneHost}, Timeout: 15 * time.Second,
	}
	if token != "" {
		c.Headers = map[string]string{"Authorization": "Bearer " + token}
	}
	return c
}

// certified gets a certificate for a pod with its own token, from its own address.
func (e *env) certified(w workload) *api.ClientTLS {
	e.Helper()
	key := e.newKey()
	a := e.call(w.Pod, certificateCall(e.token(w, identityapi.Audience), e.signingRequest(key, "")))
	if !a.OK {
		e.Fatalf("%s gets no certificate with its own token: %s", w.Name, a.Error)
	}
	var got identityapi.Certificate
	e.must(json.Unmarshal([]byte(strings.TrimPrefix(a.Text, "200 ")), &got))
	keyPEM, err := ca.EncodeKey(key)
	e.must(err)
	return &api.ClientTLS{Certificate: got.Certificate, Key: string(keyPEM)}
}

// issued makes a certificate like the mesh's with any CA at hand.
func (e *env) issued(by *ca.Authority, w workload) *api.ClientTLS {
	e.Helper()
	leaf := authority.PodLeaf(w.id(), w.Name, w.uid)
	leaf.Now, leaf.Lifetime = time.Now(), time.Hour
	cert, err := by.Issue(leaf)
	e.must(err)
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		e.must(err)
		chain = append(chain, c)
	}
	key, err := ca.EncodeKey(cert.PrivateKey.(crypto.Signer))
	e.must(err)
	return &api.ClientTLS{Certificate: string(ca.EncodeCertificates(chain...)), Key: string(key)}
}

// newCA is somebody's own.
func (e *env) newCA(name string, life time.Duration) *ca.Authority {
	e.Helper()
	a, err := ca.Generate(ca.Options{CommonName: name, Now: time.Now(), Lifetime: life})
	e.must(err)
	return a
}

// adsCall opens an ADS stream as n, with this certificate; nil is plain gRPC.
func (e *env) adsCall(n node.Node, shown *api.ClientTLS) api.Call {
	e.Helper()
	request, err := proto.Marshal(&discoveryv3.DeltaDiscoveryRequest{Node: n.Proto(), TypeUrl: envoy.ClusterType})
	e.must(err)
	if shown != nil {
		shown = &api.ClientTLS{Certificate: shown.Certificate, Key: shown.Key, ServerName: controlPlaneHost}
	}
	return api.Call{
		Kind: api.GRPCBytes, Target: fmt.Sprintf("%s:%d", controlPlaneHost, config.XDSPort), TLS: shown, Content: request,
		GRPCMethod: discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName,
	}
}

// httpRequest is what exchanges say to an HTTP server.
const httpRequest = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// meshCall speaks to a port of a pod as a sidecar would.
func meshCall(w workload, port int, shown *api.ClientTLS) api.Call {
	if shown == nil {
		shown = &api.ClientTLS{}
	}
	return api.Call{
		Kind: api.Exchange, Target: w.address(port), Content: []byte(httpRequest), Want: "HTTP/1.1 ",
		TLS: &api.ClientTLS{Certificate: shown.Certificate, Key: shown.Key, ALPN: []string{envoy.ALPN}},
	}
}

// verified gives an error unless the certificates that a server showed lead to a root and are of this pod.
func verified(peer string, root *x509.Certificate, w workload) error {
	certs, err := ca.ParseCertificates([]byte(peer))
	if err != nil || len(certs) == 0 {
		return fmt.Errorf("no certificate: %w", err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return err
	}
	if id, err := spiffe.FromCertificate(certs[0]); err != nil || id != w.id() {
		return fmt.Errorf("certificate of %s, want %s (%w)", id, w.id(), err)
	}
	return nil
}

// replicas of the control plane that run.
func (e *env) replicas() []cluster.Pod {
	e.Helper()
	pods, err := e.Pods(e.ctx, cluster.SystemNamespace, "app.kubernetes.io/name=mizzen-controller")
	e.must(err)
	var out []cluster.Pod
	for _, p := range pods {
		if p.Status.Phase == corev1.PodRunning {
			out = append(out, cluster.Pod{Namespace: p.Namespace, Name: p.Name})
		}
	}
	return out
}

// counted sums a metric over the replicas; what none has is 0. The name has its labels as on the page.
func (e *env) counted(name string) float64 {
	e.Helper()
	sum := 0.0
	for _, p := range e.replicas() {
		status, page, err := e.Get(e.ctx, p, config.ControllerHTTPPort, "metrics")
		e.must(err)
		if status != 200 {
			e.Fatalf("metrics of %s: status %d", p.Name, status)
		}
		for line := range strings.Lines(string(page)) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				e.must(err)
				sum += f
			}
		}
	}
	return sum
}

// logged tells whether some replica has logged one line with all these words since then.
func (e *env) logged(since time.Time, words ...string) (bool, error) {
	for _, p := range e.replicas() {
		found, err := e.logHas(e.ctx, p, since, words)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

func (e *env) logHas(ctx context.Context, p cluster.Pod, since time.Time, words []string) (bool, error) {
	o := &corev1.PodLogOptions{SinceTime: &metav1.Time{Time: since.Add(-time.Second)}} // it has whole seconds
	stream, err := e.CoreV1().Pods(p.Namespace).GetLogs(p.Name, o).Stream(ctx)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	for lines := bufio.NewScanner(stream); lines.Scan(); {
		if missing := slices.IndexFunc(words, func(w string) bool { return !strings.Contains(lines.Text(), w) }); missing < 0 {
			return true, nil
		}
	}
	return false, nil
}

// warned tells whether a warning about an object names all these words.
func (e *env) warned(namespace, object string, words ...string) (bool, error) {
	list, err := e.CoreV1().Events(namespace).List(e.ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.name=" + object})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.Items, func(ev corev1.Event) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(ev.Reason+" "+ev.Message, w) })
	}), nil
}

// caSecret reads the mesh's CA: its data, and the certificate that signs.
func (e *env) caSecret() (*corev1.Secret, *x509.Certificate) {
	e.Helper()
	s, err := e.CoreV1().Secrets(cluster.SystemNamespace).Get(e.ctx, caSecretName, metav1.GetOptions{})
	e.must(err)
	certs, err := ca.ParseCertificates(s.Data[corev1.TLSCertKey])
	e.must(err)
	if len(certs) == 0 {
		e.Fatal(errors.New("Secret " + caSecretName + " has no certificate"))
	}
	return s, certs[0]
}

const caSecretName = "mizzen-ca"
