package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// AnnotationManaged marks a Secret that the control plane wrote: the SHA-256 of its tls.crt in hex. Without
// it, or when tls.crt is another, the Secret is somebody else's and only read.
const AnnotationManaged = config.Group + "/managed"

// keyRoots has all roots that are trusted. tls.crt and tls.key hold the signer and, behind it, its intermediates.
const keyRoots = "ca.crt"

const fieldManager = "mizzen-controller"

// restoreGrace is how long a replica that remembers nothing waits for one that does to restore the Secret,
// before it says that it is gone.
const restoreGrace = 5 * time.Second

// errWaiting means that there is nothing to do but to look again soon.
var errWaiting = errors.New("waiting for a replica that remembers the CA to restore it")

// What is to be done about a Secret that cannot be used.
const (
	remedyDelete = "delete the Secret, and a running replica restores the last good one; or put a CA certificate with its intermediates into tls.crt, its key into tls.key and its root into ca.crt"
	remedyLeader = "the leader makes a new CA"
)

// secretError is a Secret that cannot be used, or is gone for good.
type secretError struct {
	secret *corev1.Secret
	err    error
	remedy string
}

func (e *secretError) Error() string {
	return fmt.Sprintf("Secret %s/%s: %s (%s)", e.secret.Namespace, e.secret.Name, e.err, e.remedy)
}

func (e *secretError) Unwrap() error { return e.err }

func managed(secret *corev1.Secret) bool {
	return secret.Annotations[AnnotationManaged] == mark(secret.Data)
}

func mark(data map[string][]byte) string {
	sum := sha256.Sum256(data[corev1.TLSCertKey])
	return hex.EncodeToString(sum[:])
}

// decode reads a Secret. Somebody else's CA must be able to sign the leaf now; an expired one of ours is for
// rotation.Lifetimes.Step to replace. The error names the key and wraps a reason of package ca.
func decode(secret *corev1.Secret, leaf ca.Leaf) (s rotation.State, err error) {
	data := secret.Data
	if !managed(secret) {
		if s.Signer, err = ca.LoadChain(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey], data[keyRoots], leaf); err != nil {
			return rotation.State{}, fmt.Errorf("%s, %s, %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, keyRoots, err)
		}
		return s, nil
	}
	return rotation.Decode(data, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
}

// encode gives the data of a Secret of ours that decode reads.
func encode(s rotation.State) (map[string][]byte, error) {
	data, err := rotation.Encode(s, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	if err != nil {
		return nil, err
	}
	data[keyRoots] = []byte(api.Roots(s.Trusted()...))
	return data, nil
}

// readSecret gives the Secret and the state in it, creating or restoring it where there is none.
func (m *Manager) readSecret(ctx context.Context) (*corev1.Secret, rotation.State, error) {
	secret := &corev1.Secret{}
	err := m.opts.Reader.Get(ctx, m.secretKey(), secret)
	if apierrors.IsNotFound(err) {
		return m.createSecret(ctx)
	}
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("read Secret %s: %w", m.secretKey(), err)
	}
	m.missingSince = time.Time{}
	state, err := decode(secret, m.trial())
	if err != nil {
		return nil, rotation.State{}, &secretError{secret: secret, err: err, remedy: remedyDelete}
	}
	return secret, state, nil
}

// createSecret restores what this replica remembers, or makes a new CA. Of several replicas one
// wins; the others read the winner's.
func (m *Manager) createSecret(ctx context.Context) (*corev1.Secret, rotation.State, error) {
	secret, what := m.remembered(), "restored from memory"
	if secret == nil {
		if err := m.checkNew(ctx); err != nil {
			return nil, rotation.State{}, err
		}
		what = "made, with a new CA"
		state, err := m.opts.Policy.Generate(m.opts.Now())
		if err != nil {
			return nil, rotation.State{}, err
		}
		if secret, err = m.newSecret(state); err != nil {
			return nil, rotation.State{}, err
		}
	}
	if managed(secret) {
		owners, err := m.owners(ctx)
		if err != nil {
			return nil, rotation.State{}, fmt.Errorf("owner for Secret %s: %w", m.secretKey(), err)
		}
		secret.OwnerReferences = owners
	}
	err := m.opts.Client.Create(ctx, secret, client.FieldOwner(fieldManager))
	if apierrors.IsAlreadyExists(err) {
		return m.readSecret(ctx)
	}
	if err != nil {
		return nil, rotation.State{}, fmt.Errorf("create Secret %s: %w", m.secretKey(), err)
	}
	m.missingSince = time.Time{}
	state, err := decode(secret, m.trial())
	if err != nil {
		return nil, rotation.State{}, err
	}
	m.opts.Log.Info("identity CA Secret was missing and has been "+what, "secret", m.secretKey(), "ca", state.Signer.Certificate().Subject.CommonName)
	m.opts.Recorder.Eventf(secret, nil, corev1.EventTypeNormal, "IdentityCA", "WriteIdentityCA", "the Secret of the mesh's CA was missing and has been %s", what)
	return secret, state, nil
}

// checkNew gives an error where a new CA would take the place of one that the mesh has.
func (m *Manager) checkNew(ctx context.Context) error {
	record, err := m.readRecord(ctx)
	if err != nil || record == nil {
		return err
	}
	if m.missingSince.IsZero() {
		m.missingSince = m.opts.Now()
	}
	if m.opts.Now().Sub(m.missingSince) < restoreGrace {
		return errWaiting
	}
	// The version of the record stands for that of the Secret: what is wrong is told once for each.
	missing := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: m.opts.Namespace, Name: m.opts.SecretName, ResourceVersion: record.ResourceVersion}}
	return &secretError{secret: missing, err: errMissing, remedy: m.remedyMissing()}
}

func (m *Manager) newSecret(s rotation.State) (*corev1.Secret, error) {
	data, err := encode(s)
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.opts.Namespace, Name: m.opts.SecretName,
			Labels:      ownLabels(),
			Annotations: map[string]string{AnnotationManaged: mark(data)},
		},
		Type: corev1.SecretTypeTLS,
		Data: data,
	}, nil
}

func ownLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/part-of": "mizzen", "app.kubernetes.io/managed-by": fieldManager}
}

// remembered is the Secret that was last good, as it is to be created anew, or nil.
func (m *Manager) remembered() *corev1.Secret {
	if m.last == nil {
		return nil
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.last.Namespace, Name: m.last.Name,
			Labels: maps.Clone(m.last.Labels), Annotations: maps.Clone(m.last.Annotations),
		},
		Type: m.last.Type,
		Data: m.last.Data,
	}
}

// updateSecret writes the next step of the rotation. A conflict means that another replica was
// faster; its write triggers a new look.
func (m *Manager) updateSecret(ctx context.Context, secret *corev1.Secret, next rotation.State) error {
	data, err := encode(next)
	if err != nil {
		return err
	}
	updated := secret.DeepCopy()
	updated.Data = data
	updated.Annotations[AnnotationManaged] = mark(data)
	if err := m.opts.Client.Update(ctx, updated, client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("rotate Secret %s: %w", m.secretKey(), err)
	}
	return nil
}

// trial is a leaf that every CA must be able to sign.
func (m *Manager) trial() ca.Leaf {
	leaf := m.opts.Serving
	leaf.Now = m.opts.Now()
	return leaf
}

func (m *Manager) secretKey() types.NamespacedName {
	return types.NamespacedName{Namespace: m.opts.Namespace, Name: m.opts.SecretName}
}
