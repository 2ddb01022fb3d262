package sdsserver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// Server holds the two secrets and the streams of the one Envoy. It implements SecretDiscoveryService.
type Server struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	log      *slog.Logger
	rejected func(secret string)

	mu      sync.Mutex
	secrets map[string]secret
	streams map[*stream]struct{}
	// changed is closed and replaced with each change of secrets, acked with each change of what Envoy
	// has acknowledged.
	changed, acked chan struct{}
}

// secret is marshalled once. Its version never depends on a private key.
type secret struct {
	version  string
	resource *anypb.Any
}

// New returns a server without secrets: requests wait. rejected is called when Envoy refuses a secret.
func New(log *slog.Logger, rejected func(secret string)) *Server {
	return &Server{
		log: log, rejected: rejected,
		secrets: map[string]secret{}, streams: map[*stream]struct{}{},
		changed: make(chan struct{}), acked: make(chan struct{}),
	}
}

// Set replaces both secrets at once: certificates and key of the workload in PEM, the roots in PEM. bundleVersion is
// the version that Acknowledged returns once Envoy has accepted them.
func (s *Server) Set(chain, key []byte, bundle, bundleVersion string) error {
	workload, err := pack(&tlsv3.Secret{
		Name: sds.Workload,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(chain),
			PrivateKey:       inline(key),
		}},
	}, version(chain))
	if err != nil {
		return err
	}
	roots, err := pack(&tlsv3.Secret{
		Name: sds.Bundle,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline([]byte(bundle)),
		}},
	}, bundleVersion)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = map[string]secret{sds.Workload: workload, sds.Bundle: roots}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Acknowledged returns the version of the roots that all of Envoy's subscriptions have accepted. It is empty if there
// is no subscription, or if they differ. The channel is closed at the next change.
func (s *Server) Acknowledged() (version string, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if !st.names[sds.Bundle] {
			continue
		}
		if st.acked == "" || (version != "" && version != st.acked) {
			return "", s.acked
		}
		version = st.acked
	}
	return version, s.acked
}

func pack(m *tlsv3.Secret, version string) (secret, error) {
	packed, err := anypb.New(m)
	if err != nil {
		return secret{}, fmt.Errorf("secret %q: cannot be packed", m.GetName()) // the cause might quote it
	}
	return secret{version: version, resource: packed}, nil
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

func version(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
