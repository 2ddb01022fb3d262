package authority

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// The record is a ConfigMap with the name of the Secret. It holds the roots that the mesh trusts, under
// keyRoots, so that a cluster remembers that it has a CA when no replica does: while there is one, a missing
// Secret is never replaced by a new CA, which no running sidecar would trust. To delete it is to ask for that.

// errMissing is that of a Secret that is gone although the mesh has a CA.
var errMissing = errors.New("is missing, although this mesh has a certificate authority, and no replica remembers it")

// remedyMissing is what is to be done then.
func (m *Manager) remedyMissing() string {
	return fmt.Sprintf("restore it from a backup; or start anew: delete the ConfigMap %s, and then restart all pods that have a sidecar, as they trust the lost one only", m.opts.Key())
}

// predecessor is the CA that the record of this installation tells of, nil if there is none.
func (m *Manager) predecessor(ctx context.Context) (*casecret.Predecessor, error) {
	record := &corev1.ConfigMap{}
	err := m.opts.Reader.Get(ctx, m.opts.Key(), record)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", m.opts.Key(), err)
	}
	// Without an owner it has been kept from an earlier installation, or restored by somebody.
	if len(record.OwnerReferences) > 0 {
		owner, err := m.opts.Owner(ctx)
		if err != nil {
			return nil, fmt.Errorf("owner of ConfigMap %s: %w", m.opts.Key(), err)
		}
		if !slices.ContainsFunc(record.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }) {
			return nil, nil // of a release that has been uninstalled: it is being removed
		}
	}
	// The version of the record stands for that of the Secret.
	return &casecret.Predecessor{Lost: m.opts.Missing(record.ResourceVersion, errMissing, m.remedyMissing())}, nil
}

// writeRecord notes the roots of the mesh. Any replica does, and all write the same.
func (m *Manager) writeRecord(ctx context.Context) error {
	data := map[string]string{keyRoots: api.Roots(m.memory.read.Trusted()...)}
	record := &corev1.ConfigMap{}
	err := m.opts.Reader.Get(ctx, m.opts.Key(), record)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("read ConfigMap %s: %w", m.opts.Key(), err)
	}
	owners, err := m.owners(ctx)
	if err != nil {
		return fmt.Errorf("owner of ConfigMap %s: %w", m.opts.Key(), err)
	}
	if maps.Equal(record.Data, data) && equality.Semantic.DeepEqual(record.OwnerReferences, owners) {
		return nil
	}
	record.Data, record.OwnerReferences = data, owners
	if missing {
		record.Namespace, record.Name, record.Labels = m.opts.Namespace, m.opts.SecretName, casecret.Labels()
		err = m.opts.Client.Create(ctx, record, client.FieldOwner(casecret.FieldManager))
	} else {
		err = m.opts.Client.Update(ctx, record, client.FieldOwner(casecret.FieldManager))
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return nil // another replica was faster
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", m.opts.Key(), err)
	}
	return nil
}
