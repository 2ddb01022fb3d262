package issuer

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// bundle answers when the bundle differs from the agent's, or after a while.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request) {
	certs := r.TLS.PeerCertificates
	if err := s.opt.CA.Verify(certs); err != nil {
		_ = s.refuse(w, r, refusal{http.StatusForbidden, "certificate", err})
		return
	}
	pod, err := s.opt.CA.Pod(certs[0])
	if err != nil {
		_ = s.refuse(w, r, refusal{http.StatusForbidden, "certificate", err})
		return
	}
	have := r.URL.Query().Get(api.HaveParameter)
	if raw, err := hex.DecodeString(have); err != nil || len(raw) > 32 {
		_ = s.refuse(w, r, refusal{http.StatusBadRequest, "request", errVersion})
		return
	}
	leave := s.agents.enter(pod.UID, have, certs[0])
	defer leave()
	// Spread out, not all at once.
	wait := s.opt.BundleWait - rand.N(s.opt.BundleWait/4+1)
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	for {
		bundle, version, replaced := s.opt.CA.Bundle()
		if bundle != "" && version != have {
			_ = httpjson.Write(w, http.StatusOK, api.Bundle{Bundle: bundle, Version: version})
			return
		}
		select {
		case <-replaced:
			continue
		case <-ctx.Done():
		case <-s.stopping:
			w.Header().Set("Connection", "close") // the next request goes to another replica
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
}

// peers answers a replica of the control plane.
func (s *Server) peers(w http.ResponseWriter, r *http.Request) {
	if err := s.opt.CA.Peer(r.TLS.PeerCertificates); err != nil {
		_ = s.refuse(w, r, refusal{http.StatusForbidden, "certificate", fmt.Errorf("%s is for the replicas of the control plane: %w", r.URL.Path, err)})
		return
	}
	if r.TLS.PeerCertificates[0].NotAfter.Sub(s.opt.Now()) < peerMargin {
		w.Header().Set("Connection", "close")
	}
	s.opt.Peers.ServeHTTP(w, r)
}

// peerMargin is the remaining lifetime of a replica's certificate that its connection needs to stay open. It is longer
// than the idle timeout (internal/replicas), so that no connection is in use when its certificate expires.
const peerMargin = 2 * time.Minute

// report serves the state of the agents, for the other replicas and for people.
func (s *Server) report(w http.ResponseWriter, _ *http.Request) {
	_ = httpjson.Write(w, http.StatusOK, s.Report())
}

// defaultBundleWait is the default of Options.BundleWait.
const defaultBundleWait time.Duration = api.BundleWait
