package webhookcert

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// restoreGrace is how long a replica that remembers nothing waits before it makes a new CA in the
// place of one that the cluster still trusts: a replica that remembers it restores it by then.
const restoreGrace = 3 * time.Second

// errWaiting means that there is nothing to do but to look again soon.
var errWaiting = errors.New("waiting for a replica that remembers the CA to restore it")

// What is to be done about a Secret that cannot be used.
const (
	remedyDelete = "delete the Secret: a running replica restores it from memory, or a new CA is made"
	remedyLeader = "the leader makes a new CA"
)

// secretError is a Secret that exists and cannot be used.
type secretError struct {
	secret *corev1.Secret
	err    error
	remedy string
}

func (e *secretError) Error() string {
	return fmt.Sprintf("Secret %s/%s: %s (%s)", e.secret.Namespace, e.secret.Name, e.err, e.remedy)
}

func (e *secretError) Unwrap() error { return e.err }

// readSecret gives the state in the Secret, creating or restoring it where there is none.
// trusted says that some caBundle is filled, that is, that there has been a CA before.
func (m *Manager) readSecret(ctx context.Context, trusted bool) (*corev1.Secret, rotation.State, error) {
	secret := &corev1.Secret{}
	err := m.opts.Reader.Get(ctx, m.secretKey(), secret)
	if apierrors.IsNotFound(err) {
		return m.createSecret(ctx, trusted)
	}
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("read Secret %s: %w", m.secretKey(), err)
	}
	m.missingSince = time.Time{}
	state, err := Decode(secret.Data)
	if err != nil {
		return nil, rotation.State{}, &secretError{secret: secret, err: err, remedy: remedyDelete}
	}
	return secret, state, nil
}

// createSecret restores what this replica remembers, or makes a new CA. Of several replicas one
// wins; the others read the winner's.
func (m *Manager) createSecret(ctx context.Context, trusted bool) (*corev1.Secret, rotation.State, error) {
	now := m.opts.Now()
	state, verb := m.memory, "restored from memory"
	if state.Signer == nil {
		if m.missingSince.IsZero() {
			m.missingSince = now
		}
		if trusted && now.Sub(m.missingSince) < restoreGrace {
			return nil, rotation.State{}, errWaiting
		}
		var err error
		if state, err = m.opts.Policy.Generate(now); err != nil {
			return nil, rotation.State{}, err
		}
		verb = "created"
	}
	// An owner that is gone means that the release is being uninstalled: nothing may be left behind.
	owner, err := m.opts.Owner(ctx)
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("owner for Secret %s: %w", m.secretKey(), err)
	}
	data, err := Encode(state)
	if err != nil {
		return nil, rotation.State{}, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       m.opts.Namespace,
			Name:            m.opts.SecretName,
			Labels:          map[string]string{"app.kubernetes.io/part-of": "mizzen", "app.kubernetes.io/managed-by": fieldManager},
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Data: data,
	}
	err = m.opts.Client.Create(ctx, secret, client.FieldOwner(fieldManager))
	if apierrors.IsAlreadyExists(err) {
		return m.readSecret(ctx, trusted)
	}
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("create Secret %s: %w", m.secretKey(), err)
	}
	m.missingSince = time.Time{}
	m.opts.Log.Info("webhook CA Secret "+verb, "secret", m.secretKey(), "ca", state.Signer.Certificate().Subject.CommonName)
	return secret, state, nil
}

// updateSecret writes the next step of the rotation. A conflict means that another replica was
// faster; its write triggers a new look.
func (m *Manager) updateSecret(ctx context.Context, secret *corev1.Secret, next rotation.State) error {
	data, err := Encode(next)
	if err != nil {
		return err
	}
	updated := secret.DeepCopy()
	updated.Data = data
	if err := m.opts.Client.Update(ctx, updated, client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("rotate Secret %s: %w", m.secretKey(), err)
	}
	return nil
}

func (m *Manager) secretKey() types.NamespacedName {
	return types.NamespacedName{Namespace: m.opts.Namespace, Name: m.opts.SecretName}
}
