package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// refusal is the reason why a request is refused: the status, a word for the metric and a text for people.
type refusal struct {
	status int
	reason string
	err    error
}

func (r refusal) Error() string { return r.err.Error() }

// certificate answers a request for a certificate.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	answer, caller, err := s.sign(ctx, w, r)
	if err != nil {
		s.tell(r, caller, s.refuse(w, r, err))
		return
	}
	s.metrics.certificates.WithLabelValues("signed").Inc()
	_ = httpjson.Write(w, http.StatusOK, answer)
}

// remedies say what to do, by the reason of a refusal.
var remedies = map[string]string{
	"token":    "a sidecar sends the projected token of its own pod for the audience " + api.Audience + "; if this client is a sidecar, recreate its pod",
	"request":  "sidecars of this version send valid requests: recreate the pod with the image of the current release",
	"identity": "a sidecar gets a certificate only for its pod's own service account: request that name, or no name",
	"pod":      "if this is a pod of the mesh, recreate it",
}

// tell reports a refused request with its pod, as far as the pod is known.
func (s *Server) tell(r *http.Request, caller Caller, why refusal) {
	if why.status >= http.StatusInternalServerError || why.reason == "rate" {
		return
	}
	if from := netlimit.Client(r.RemoteAddr); caller.UID == "" && from.IsValid() && s.opt.RefusedFrom != nil {
		s.opt.RefusedFrom(from, why.err)
	} else if caller.UID != "" && s.opt.Refused != nil {
		s.opt.Refused(caller, why.err)
	}
}

// sign makes the cheap checks first. The caller is zero until it is known.
func (s *Server) sign(ctx context.Context, w http.ResponseWriter, r *http.Request) (*api.Certificate, Caller, error) {
	from := netlimit.Client(r.RemoteAddr)
	if !from.IsValid() {
		return nil, Caller{}, refusal{http.StatusForbidden, "address", fmt.Errorf("client address %q: want an address and a port", r.RemoteAddr)}
	}
	if !s.limits.allow(from) {
		w.Header().Set("Retry-After", "1")
		return nil, Caller{}, refusal{http.StatusTooManyRequests, "rate", fmt.Errorf("%s: too many requests, try again", from)}
	}
	token, err := readToken(r.Header)
	if err != nil {
		return nil, Caller{}, refusal{http.StatusUnauthorized, "token", err}
	}
	// Not for the whole server, because that would end requests that wait for a bundle.
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(requestTime)) // a connection without one is closed already
	csr, err := readRequest(http.MaxBytesReader(w, r.Body, api.MaxBody))
	if err != nil {
		return nil, Caller{}, refusal{http.StatusBadRequest, "request", err}
	}
	_ = deadline.SetReadDeadline(time.Time{})
	caller, err := s.review(ctx, token)
	switch {
	case errors.Is(err, ErrToken):
		return nil, Caller{}, refusal{http.StatusUnauthorized, "token", err}
	case err != nil:
		return nil, Caller{}, refusal{http.StatusServiceUnavailable, "unavailable", fmt.Errorf("review the token: %w", err)}
	}
	answer, err := s.signFor(ctx, caller, csr, from)
	return answer, caller, err
}

// signFor checks that the caller may have the certificate, and signs it.
func (s *Server) signFor(ctx context.Context, caller Caller, csr *x509.CertificateRequest, from netip.Addr) (*api.Certificate, error) {
	id, err := spiffe.Of(s.opt.TrustDomain, caller.Namespace, caller.ServiceAccount)
	if err != nil {
		return nil, refusal{http.StatusForbidden, "identity", err}
	}
	if err := checkName(csr, id); err != nil {
		return nil, refusal{http.StatusForbidden, "identity", err}
	}
	if err := s.checkPod(ctx, caller, from); err != nil {
		return nil, err
	}
	cert, err := s.opt.CA.Sign(authority.PodLeaf(id, caller.Pod, caller.UID), csr)
	if err != nil {
		return nil, refusal{http.StatusServiceUnavailable, "unavailable", err}
	}
	bundle, _, _ := s.opt.CA.Bundle()
	s.opt.Log.V(1).Info("certificate signed", "pod", caller.Namespace+"/"+caller.Pod, "id", id.String())
	return &api.Certificate{Certificate: string(cert), Bundle: bundle}, nil
}

// review asks the API server when the request has its turn.
func (s *Server) review(ctx context.Context, token string) (Caller, error) {
	if err := s.limits.reviews.Acquire(ctx, 1); err != nil {
		return Caller{}, errors.New("too many requests at a time, try again")
	}
	defer s.limits.reviews.Release(1)
	return s.opt.Tokens.Review(ctx, token)
}

// podPoll is the interval of looks at a pod that is unknown or has no address yet. The kubelet reports the address at
// about the time at which the sidecar asks.
const podPoll = 50 * time.Millisecond

// checkPod returns an error unless the caller's pod exists and sends the request itself.
func (s *Server) checkPod(ctx context.Context, c Caller, from netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, s.opt.PodWait)
	defer cancel()
	for {
		pod, err := s.opt.Pods.Pod(ctx, c.Namespace, c.Pod, c.UID)
		var final bool
		err, final = s.judge(pod, err, c, from)
		if err == nil || final {
			return err
		}
		select {
		case <-time.After(podPoll):
		case <-ctx.Done():
			return err
		}
	}
}

// judge returns what is wrong, and whether that is final.
func (s *Server) judge(pod Pod, err error, c Caller, from netip.Addr) (wrong error, final bool) { //nolint:revive // the error is the result
	name := c.Namespace + "/" + c.Pod
	refused := func(reason, format string, args ...any) error {
		return refusal{http.StatusForbidden, reason, fmt.Errorf("pod %s: "+format, append([]any{name}, args...)...)}
	}
	switch {
	case errors.Is(err, ErrNoPod):
		return refused("pod", "no pod has the UID %s", c.UID), true
	case err != nil:
		return refusal{http.StatusServiceUnavailable, "unavailable", fmt.Errorf("look up pod %s: %w", name, err)}, false
	case pod.ServiceAccount != c.ServiceAccount:
		return refused("pod", "the pod's service account is %q, but the token's is %q", pod.ServiceAccount, c.ServiceAccount), true
	case pod.Ended:
		return refused("pod", "the pod has ended"), true
	case !s.opt.CheckSourceAddress:
		return nil, true
	case len(pod.IPs) == 0:
		return refusal{http.StatusServiceUnavailable, "unavailable", fmt.Errorf("pod %s has no address yet, try again", name)}, false
	case !slices.Contains(pod.IPs, from):
		return refused("address", "the request comes from %s, but the pod has %v (identity.checkSourceAddress)", from, pod.IPs), true
	}
	return nil, true
}
