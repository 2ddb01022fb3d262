package agent

import (
	"fmt"
	"net/http"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

// loopbackOnly hides pages from the network, on which everybody reaches the agent's port. kubectl port-forward connects
// on loopback, and Kubernetes' RBAC decides who may use it.
func loopbackOnly(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !netlimit.Client(r.RemoteAddr).IsLoopback() {
			http.Error(w, fmt.Sprintf("%s is answered on loopback only: use mizzenctl, or kubectl port-forward <pod> %d", r.URL.Path, fixed.AgentPort), http.StatusForbidden)
			return
		}
		h(w, r)
	}
}

func (a *agent) serveIdentity(w http.ResponseWriter, _ *http.Request) {
	if a.identity == nil {
		answerNoIdentity(w)
		return
	}
	a.answerJSON(w, a.identity.Describe())
}

func (a *agent) servePlainText(w http.ResponseWriter, _ *http.Request) {
	if a.plain == nil {
		answerNoIdentity(w)
		return
	}
	a.answerJSON(w, a.plain.Snapshot())
}

func answerNoIdentity(w http.ResponseWriter) {
	http.Error(w, "this proxy has no identity, because the mesh had none when the pod was created", http.StatusNotFound)
}

func (a *agent) answerJSON(w http.ResponseWriter, v any) {
	if err := httpjson.Write(w, http.StatusOK, v); err != nil {
		a.log.Debug("answer interrupted", "error", err)
	}
}
