package casecret

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// remedyExpired is what happens to a CA that has expired.
const remedyExpired = "the leader makes a new CA"

// Unusable is a Secret that cannot be used, or is gone for good.
type Unusable struct {
	secret         *corev1.Secret
	err            error
	reason, remedy string
	// read is true of a Secret that was read, but holds a CA that is not valid now.
	read bool
}

func (e *Unusable) Error() string {
	return fmt.Sprintf("Secret %s/%s: %s (%s)", e.secret.Namespace, e.secret.Name, e.err, e.remedy)
}

func (e *Unusable) Unwrap() error { return e.err }

// Missing is the Secret that is gone. It is reported once for each version.
func (o *Options) Missing(version string, err error, remedy string) *Unusable {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.SecretName, ResourceVersion: version}}
	return &Unusable{secret: secret, err: err, reason: "Missing", remedy: remedy}
}

// complain names a bad Secret in readiness and metric, and in log and event once for each version of it.
func (s *Store) complain(bad *Unusable) {
	if bad.reason == "" {
		bad.reason = ca.Reason(bad.err)
	}
	s.metrics.usable.Set(0)
	s.metrics.errors.WithLabelValues(bad.reason).Inc()
	note, remembers := bad.Error(), !bad.read && s.state.Signer != nil
	if remembers {
		note += "; " + s.kind.Doing + " with the CA in memory"
	}
	s.note.Store(&note)
	if s.reported == bad.secret.ResourceVersion {
		return
	}
	s.reported = bad.secret.ResourceVersion
	s.opts.Log.Error(bad.err, s.kind.Name+" Secret cannot be used", "secret", s.opts.Key(), "reason", bad.reason,
		"remedy", bad.remedy, s.kind.Doing+"FromMemory", remembers)
	s.opts.Recorder.Eventf(bad.secret, nil, corev1.EventTypeWarning, s.kind.EventReason+bad.reason, "Read"+s.kind.EventReason, "%s", bad.Error())
}

// Note says what is wrong with the Secret although the replica serves; empty when nothing is.
func (s *Store) Note() string {
	if note := s.note.Load(); note != nil {
		return *note
	}
	return ""
}
