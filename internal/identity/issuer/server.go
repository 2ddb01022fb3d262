package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/node"
)

// DebugPath serves an authority.Report; Options.Peers serves it to the other replicas.
const DebugPath = "/debug/identity"

// PeerPaths is the prefix of the paths of Options.Peers.
const PeerPaths = "/debug/"

// CA signs certificates and returns the trust bundle: authority.Manager.
type CA interface {
	Sign(l ca.Leaf, csr *x509.CertificateRequest) (certificate []byte, err error)
	Bundle() (bundle, version string, replaced <-chan struct{})
	Signer() string
	Verify(certs []*x509.Certificate) error
	// Peer verifies the certificate of a replica of the control plane.
	Peer(certs []*x509.Certificate) error
	Pod(cert *x509.Certificate) (node.Identity, error)
}

// Caller is the owner of a token.
type Caller struct{ Namespace, ServiceAccount, Pod, UID string }

// Tokens finds the owner of a token.
type Tokens interface {
	// Review returns an error that wraps ErrToken if the token is not a pod's token for api.Audience, and another error
	// if that cannot be decided now.
	Review(ctx context.Context, token string) (Caller, error)
}

// ErrToken is the error of an unacceptable token.
var ErrToken = errors.New("token")

// Pod has the needed facts about a pod.
type Pod struct {
	ServiceAccount string
	IPs            []netip.Addr
	// Ended is set if its containers have ended for good.
	Ended bool
}

// Pods looks up pods.
type Pods interface {
	// Pod returns an error that wraps ErrNoPod if there is no pod with that name and UID. The server calls it
	// again while the pod has no address.
	Pod(ctx context.Context, namespace, name, uid string) (Pod, error)
}

// ErrNoPod is the error of a pod that does not exist.
var ErrNoPod = errors.New("no such pod")

var errVersion = errors.New(api.HaveParameter + ": want the version of a bundle in hex, or no value")

// Options of a Server. All but those with a default are required.
type Options struct {
	CA          CA
	Tokens      Tokens
	Pods        Pods
	TrustDomain string
	// TLS is the server's configuration. It requests a client certificate, but does not check it.
	TLS *tls.Config
	// CheckSourceAddress refuses requests that do not come from an address of the token's pod.
	CheckSourceAddress bool
	Log                logr.Logger
	Registerer         prometheus.Registerer
	// Refused is called for a refused request of a known caller, and RefusedFrom if only the address is known. They
	// must not block. Optional.
	Refused     func(Caller, error)
	RefusedFrom func(netip.Addr, error)
	// Peers serves paths below PeerPaths to the other replicas of the control plane only. Optional.
	Peers http.Handler
	// BundleWait is how long a request for the bundle waits. Default api.BundleWait.
	BundleWait time.Duration
	// PodWait is how long to wait for a pod's address. Default 5s.
	PodWait time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Server answers agents.
type Server struct {
	opt      Options
	metrics  *metrics
	limits   *limits
	agents   *agents
	stopping chan struct{}
	// complaints limits the log lines that any client can cause.
	complaints *rate.Limiter
}

// New returns a server and registers its metrics.
func New(o Options) (*Server, error) {
	if o.BundleWait == 0 {
		o.BundleWait = defaultBundleWait
	}
	if o.PodWait == 0 {
		o.PodWait = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		opt: o, limits: newLimits(), agents: &agents{now: o.Now, of: map[string]*agent{}},
		stopping: make(chan struct{}), complaints: rate.NewLimiter(5, 20),
	}
	var err error
	s.metrics, err = newMetrics(o.Registerer)
	return s, err
}

// Report returns this replica's state of its agents.
func (s *Server) Report() authority.Report {
	_, version, _ := s.opt.CA.Bundle()
	return s.agents.report(version, s.opt.CA.Signer())
}

// Debug serves DebugPath.
func (s *Server) Debug() http.Handler { return http.HandlerFunc(s.report) }

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.CertificatePath, s.certificate)
	mux.HandleFunc("GET "+api.BundlePath, s.bundle)
	if s.opt.Peers != nil {
		mux.HandleFunc("GET "+PeerPaths, s.peers)
	}
	return mux
}

// finishTime is how long requests in progress may take when the server stops.
const finishTime = 5 * time.Second

// Serve answers on the listener until ctx ends. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // each connection has one request at a time, which bounds them
	h := &http.Server{
		Handler: s.handler(), TLSConfig: s.opt.TLS, Protocols: &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      s.opt.BundleWait + 15*time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       log.New(handshakeErrors{s}, "", 0),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		close(s.stopping)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
		defer cancel()
		if h.Shutdown(ctx) != nil {
			_ = h.Close()
		}
	})
	err := h.ServeTLS(netlimit.Listen(l, connections, connectionsPerAddress, s.tooMany), "", "")
	if stop() {
		return fmt.Errorf("identity server: %w", err)
	}
	<-stopped
	return nil
}

func (s *Server) tooMany(client netip.Addr) {
	s.metrics.certificates.WithLabelValues("connections").Inc()
	if s.complaints.Allow() {
		s.opt.Log.Info("closed a connection: too many connections", "client", client)
	}
}

// handshakeErrors receives the log of http.Server: connections that are not TLS, or not HTTP.
type handshakeErrors struct{ *Server }

func (h handshakeErrors) Write(line []byte) (int, error) {
	h.metrics.certificates.WithLabelValues("handshake").Inc()
	if h.complaints.Allow() {
		h.opt.Log.Info("refused a connection", "why", string(line))
	}
	return len(line), nil
}

// refuse answers with an error, and counts and logs it. The text says what to do.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) refusal {
	why := refusal{status: http.StatusInternalServerError, reason: "internal", err: err}
	errors.As(err, &why)
	if remedy := remedies[why.reason]; remedy != "" {
		why.err = fmt.Errorf("%w (%s)", why.err, remedy)
	}
	s.metrics.certificates.WithLabelValues(why.reason).Inc()
	if s.complaints.Allow() {
		s.opt.Log.Info("refused a request", "client", r.RemoteAddr, "path", r.URL.Path, "reason", why.reason, "why", why.Error())
	}
	_ = httpjson.Write(w, why.status, api.Error{Error: why.Error()})
	return why
}
