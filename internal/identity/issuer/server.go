package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/node"
)

// DebugPath answers with an authority.Report: Options.Peers serves it to the other replicas.
const DebugPath = "/debug/identity"

// PeerPaths begins the paths of Options.Peers.
const PeerPaths = "/debug/"

// CA signs and says what is trusted: authority.Manager.
type CA interface {
	Sign(l ca.Leaf, csr *x509.CertificateRequest) (certificate []byte, err error)
	Bundle() (bundle, version string, replaced <-chan struct{})
	Signer() string
	Verify(certs []*x509.Certificate) error
	// Peer is Verify for a replica of the control plane.
	Peer(certs []*x509.Certificate) error
	Pod(cert *x509.Certificate) (node.Identity, error)
}

// Caller is whose a token is.
type Caller struct{ Namespace, ServiceAccount, Pod, UID string }

// Tokens tells whose a token is.
type Tokens interface {
	// Review gives an error that wraps ErrToken if the token is not one of a pod for api.Audience, and
	// another if that cannot be known now.
	Review(ctx context.Context, token string) (Caller, error)
}

// ErrToken is that of a token that is good for nothing here.
var ErrToken = errors.New("token")

// Pod is what has to be known of one.
type Pod struct {
	ServiceAccount string
	IPs            []netip.Addr
	// Ended is set when its containers have ended for good.
	Ended bool
}

// Pods looks up pods.
type Pods interface {
	// Pod gives an error that wraps ErrNoPod if there is none of that name and UID. One that is there but may
	// have got an address since is looked up again.
	Pod(ctx context.Context, namespace, name, uid string) (Pod, error)
}

// ErrNoPod is that of a pod that does not exist.
var ErrNoPod = errors.New("no such pod")

var errVersion = errors.New(api.HaveParameter + ": want the version of a bundle in hex, or no value")

// Options of a Server. All but those with a default are required.
type Options struct {
	CA          CA
	Tokens      Tokens
	Pods        Pods
	TrustDomain string
	// TLS serves the connections and asks for a client's certificate without a check of it.
	TLS *tls.Config
	// CheckSourceAddress refuses requests that do not come from an address of the token's pod.
	CheckSourceAddress bool
	Log                logr.Logger
	Registerer         prometheus.Registerer
	// Refused is told of a request that was refused to a caller that is known, RefusedFrom of one of which only the
	// address is. They must not block. Optional.
	Refused     func(Caller, error)
	RefusedFrom func(netip.Addr, error)
	// Peers answers the other replicas of the control plane, and nobody else, at paths below PeerPaths. Optional.
	Peers http.Handler
	// BundleWait is how long a request for the bundle waits. Default api.BundleWait.
	BundleWait time.Duration
	// PodWait is how long a pod's address is waited for. Default 5s.
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
	// complaints bounds what strangers can have logged.
	complaints *rate.Limiter
}

// New gives a server and registers its metrics.
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

// Report is what this replica knows of its agents.
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

// finishTime is how long requests under way may take when the server stops.
const finishTime = 5 * time.Second

// Serve answers on the listener until ctx ends. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // a connection is one request at a time, which bounds them
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
	err := h.ServeTLS(&netlimit.Listener{Listener: l, All: connections, PerAddress: connectionsPerAddress, Refused: s.tooMany}, "", "")
	if stop() {
		return fmt.Errorf("identity server: %w", err)
	}
	<-stopped
	return nil
}

func (s *Server) tooMany(address string) {
	s.metrics.certificates.WithLabelValues("connections").Inc()
	if s.complaints.Allow() {
		s.opt.Log.Info("closed a connection: too many connections", "client", address)
	}
}

// handshakeErrors takes what http.Server logs: connections that are no TLS, or no HTTP.
type handshakeErrors struct{ *Server }

func (h handshakeErrors) Write(line []byte) (int, error) {
	h.metrics.certificates.WithLabelValues("handshake").Inc()
	if h.complaints.Allow() {
		h.opt.Log.Info("refused a connection", "why", string(line))
	}
	return len(line), nil
}

// refuse answers with an error, counts and logs it. What it gives has what is to be done in it.
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
	writeJSON(w, why.status, api.Error{Error: why.Error()})
	return why
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}
