package casecret

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/lookout"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// ErrWaiting means that there is nothing to do but to look again soon.
var ErrWaiting = errors.New("waiting for a replica that remembers the CA to restore it")

// Store is one CA in its Secret. Certificate and Note are safe for concurrent use; the rest is for the one goroutine
// that reconciles.
type Store struct {
	opts    Options
	kind    Kind
	serving *rotation.Serving
	metrics *metrics
	// note is what is wrong with the Secret, nil if nothing is.
	note atomic.Pointer[string]

	// secret was the last good one, and state is what it held.
	secret       *corev1.Secret
	state        rotation.State
	signer       *ca.Authority
	missingSince time.Time // the Secret was first seen missing, with nothing in memory and a predecessor
	reported     string    // the resource version of the Secret last complained about
}

// New returns a Store that has read nothing yet, and registers its metrics.
func New(o Options, k Kind) (*Store, error) {
	if err := o.Lifetimes.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, k)
	return &Store{opts: o, kind: k, serving: rotation.NewServing(k.Leaf, o.Now), metrics: m}, err
}

// Watch has the manager run r when the Secret or the other object changes, at the start and on becoming leader. The role
// needs to allow both by name only. onLead is called with a task to run on becoming leader.
func (s *Store) Watch(mgr manager.Manager, name string, r reconcile.Reconciler, onLead func(task func(context.Context)), other lookout.Object) error {
	secret := lookout.Object{GroupVersion: corev1.SchemeGroupVersion, Kind: "Secret", Namespace: s.opts.Namespace, Name: s.opts.SecretName}
	return lookout.Add(mgr, lookout.Options{Name: name, Reconciler: r, OnLead: onLead, Objects: []lookout.Object{secret, other}})
}

// State is what the last good Secret held; zero while none has been read.
func (s *Store) State() rotation.State { return s.state }

// Secret is the last good one, nil while none has been read.
func (s *Store) Secret() *corev1.Secret { return s.secret }

// Certificate returns this replica's own certificate.
func (s *Store) Certificate() (*tls.Certificate, error) { return s.serving.Certificate() }

// Read reads the Secret, creating or restoring it where there is none. It reports whether State is what is in the
// cluster; without an error it is otherwise what this replica remembers. before is asked when the Secret is missing and
// this replica remembers nothing.
func (s *Store) Read(ctx context.Context, before Before) (current bool, err error) {
	secret, state, err := s.read(ctx, before)
	bad := &Unusable{}
	switch {
	case errors.As(err, &bad):
		s.complain(bad)
		return false, nil
	case err != nil:
		return false, err
	}
	s.secret, s.state = secret, state
	s.metrics.usable.Set(1)
	if err := state.Signer.CheckTime(s.opts.Now()); err != nil {
		s.complain(&Unusable{secret: secret, err: err, remedy: remedyExpired, read: true})
	} else {
		s.note.Store(nil)
	}
	return true, nil
}

// Use makes later certificates come from signer, and reports whether it is another one than before.
func (s *Store) Use(signer *ca.Authority) (changed bool) {
	if changed = !s.signer.Equal(signer); changed {
		s.opts.Log.Info(s.kind.Name+" signs", "ca", signer.Certificate().Subject.CommonName, "expires", signer.NotAfter())
	}
	s.signer = signer
	s.serving.Use(signer)
	s.metrics.expiry.Set(float64(signer.NotAfter().Unix()))
	return changed
}

// Step takes the next step of the rotation if it is due and this replica leads. It reports whether one was due, and how
// long to wait before looking again. It is called after a Read that found State current.
func (s *Store) Step(ctx context.Context, l rotation.Lifetimes, held rotation.Held) (due bool, wait time.Duration, err error) {
	next, due, wait, err := l.Step(s.state, s.opts.Now(), held)
	switch {
	case err != nil || !due:
		return false, wait, err
	case !s.opts.IsLeader():
		// Winning the election triggers a look too; this one is for a leader that does not do its work.
		return true, time.Minute, nil
	}
	updated := s.secret.DeepCopy()
	if err := s.kind.Encode(updated, next); err != nil {
		return true, 0, err
	}
	// A conflict means that another replica was faster; its write triggers a new look.
	if err := s.opts.Client.Update(ctx, updated, client.FieldOwner(FieldManager)); err != nil {
		return true, 0, fmt.Errorf("rotate Secret %s: %w", s.opts.Key(), err)
	}
	s.opts.Log.Info(s.kind.Name+" rotation: one step further", "signer", next.Signer.Certificate().Subject.CommonName,
		"hasNext", next.Next != nil, "previous", len(next.Previous))
	return true, 50 * time.Millisecond, nil
}

// SetOwners gives the Secret these owners where it has others.
func (s *Store) SetOwners(ctx context.Context, owners []metav1.OwnerReference) error {
	if equality.Semantic.DeepEqual(s.secret.OwnerReferences, owners) {
		return nil
	}
	owned := s.secret.DeepCopy()
	owned.OwnerReferences = owners
	if err := s.opts.Client.Update(ctx, owned, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("owner for Secret %s: %w", s.opts.Key(), err)
	}
	s.secret = owned
	return nil
}

// errNotMade is that of a Secret that only another control plane may make.
var errNotMade = errors.New("is not there")

func (s *Store) read(ctx context.Context, before Before) (*corev1.Secret, rotation.State, error) {
	secret := &corev1.Secret{}
	err := s.opts.Reader.Get(ctx, s.opts.Key(), secret)
	switch {
	case apierrors.IsNotFound(err) && s.opts.ReadOnly:
		return nil, rotation.State{}, s.opts.Missing("0", errNotMade, "the main control plane makes it")
	case apierrors.IsNotFound(err):
		return s.create(ctx, before)
	}
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("read Secret %s: %w", s.opts.Key(), err)
	}
	return s.decode(secret)
}

func (s *Store) decode(secret *corev1.Secret) (*corev1.Secret, rotation.State, error) {
	s.missingSince = time.Time{}
	state, err := s.kind.Decode(secret)
	if err != nil {
		return nil, rotation.State{}, &Unusable{secret: secret, err: err, remedy: s.kind.Remedy}
	}
	return secret, state, nil
}

// create restores what this replica remembers, or makes a new CA. Of several replicas one wins; the others read the
// winner's.
func (s *Store) create(ctx context.Context, before Before) (*corev1.Secret, rotation.State, error) {
	secret, state, how := s.remembered(), s.state, "restored from memory"
	if secret == nil {
		err := s.checkNew(ctx, before)
		if err != nil {
			return nil, rotation.State{}, err
		}
		how = "made, with a new CA"
		if state, err = s.opts.Lifetimes.Generate(s.opts.Now()); err != nil {
			return nil, rotation.State{}, err
		}
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.opts.Namespace, Name: s.opts.SecretName, Labels: Labels()}}
		if err := s.kind.Encode(secret, state); err != nil {
			return nil, rotation.State{}, err
		}
	}
	var err error
	if secret.OwnerReferences, err = s.kind.Owners(ctx, secret); err != nil {
		return nil, rotation.State{}, fmt.Errorf("owner for Secret %s: %w", s.opts.Key(), err)
	}
	err = s.opts.Client.Create(ctx, secret, client.FieldOwner(FieldManager))
	if apierrors.IsAlreadyExists(err) {
		return s.read(ctx, before)
	}
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("create Secret %s: %w", s.opts.Key(), err)
	}
	s.opts.Log.Info(s.kind.Name+" Secret was missing and has been "+how, "secret", s.opts.Key(), "ca", state.Signer.Certificate().Subject.CommonName)
	if s.kind.Created != nil {
		s.kind.Created(secret, how)
	}
	return s.decode(secret)
}

// checkNew returns an error where a new CA would take the place of one that the cluster has: ErrWaiting, and when that
// is over what is wrong, if the CA must not be replaced.
func (s *Store) checkNew(ctx context.Context, before Before) error {
	predecessor, err := before(ctx)
	if err != nil || predecessor == nil {
		return err
	}
	now := s.opts.Now()
	if s.missingSince.IsZero() {
		s.missingSince = now
	}
	if now.Sub(s.missingSince) < s.kind.RestoreGrace {
		return ErrWaiting
	}
	if predecessor.Lost != nil {
		return predecessor.Lost
	}
	return nil
}

// remembered is the Secret that was last good, as it is to be created anew, or nil.
func (s *Store) remembered() *corev1.Secret {
	if s.secret == nil {
		return nil
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.secret.Namespace, Name: s.secret.Name,
			Labels: maps.Clone(s.secret.Labels), Annotations: maps.Clone(s.secret.Annotations),
		},
		Type: s.secret.Type,
		Data: s.secret.Data,
	}
}
