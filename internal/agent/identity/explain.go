package identity

import (
	"crypto/x509"
	"errors"
	"strconv"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// complain logs a failure once, and again when it becomes another or the certificate runs out. said is
// what it has said before.
func (i *Identity) complain(said *string, err error) {
	now := i.current.Load()
	state, log := "none", i.log.Warn
	if now.certificate != nil {
		switch left := time.Until(now.notAfter); {
		case left <= 0:
			state, log = "ended", i.log.Error
		case left < now.life/5:
			state, log = "running out", i.log.Error
		default:
			state = "valid"
		}
	}
	if what := state + ": " + kind(err); what != *said {
		*said = what
		log("no new certificate yet, trying again", "controlPlane", i.opts.Address, "present", state, "notAfter", now.notAfter, "error", explain(err))
	}
}

// kind is the same for the same failure at another time, from another port.
func kind(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var refused *refusedError
	switch {
	case errors.As(err, &unknown):
		return "unknown root"
	case errors.As(err, &invalid):
		return "invalid certificate " + strconv.Itoa(int(invalid.Reason))
	case errors.As(err, &refused):
		return strconv.Itoa(refused.status)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// explain says what is wrong and, where that is known, what to do.
func explain(err error) string {
	text := err.Error()
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var refused *refusedError
	switch {
	case errors.As(err, &unknown):
		return text + "; this pod does not trust the root: if the mesh's root was replaced, recreate the pod"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return text + "; check this node's clock"
	case errors.As(err, &refused) && refused.status == 401:
		return text + "; the token was refused: does the pod still exist, and does the API server issue tokens for the audience " + api.Audience + "?"
	case errors.As(err, &refused) && refused.status == 403:
		return text + "; the pod may not have this identity; see the control plane's log"
	}
	return text
}
