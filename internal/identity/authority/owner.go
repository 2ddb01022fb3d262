package authority

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// owners are those of what is made here. Without Keep an owner that is gone is an error: the release is being
// uninstalled, and nothing may be left behind.
func (m *Manager) owners(ctx context.Context) ([]metav1.OwnerReference, error) {
	if m.opts.Keep {
		return nil, nil
	}
	owner, err := m.opts.Owner(ctx)
	if err != nil {
		return nil, err
	}
	return []metav1.OwnerReference{owner}, nil
}

// own gives a Secret of ours its owners where it has others: those of an installation with another Keep, or of
// one that is gone, with which garbage collection would take it away. Somebody else's Secret is left as it is.
func (m *Manager) own(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	if !managed(secret) || !m.opts.IsLeader() {
		return secret, nil
	}
	owners, err := m.owners(ctx)
	if err != nil {
		return nil, fmt.Errorf("owner for Secret %s: %w", m.secretKey(), err)
	}
	if sameOwners(secret, owners) {
		return secret, nil
	}
	owned := secret.DeepCopy()
	owned.OwnerReferences = owners
	if err := m.opts.Client.Update(ctx, owned, client.FieldOwner(fieldManager)); err != nil {
		return nil, fmt.Errorf("owner for Secret %s: %w", m.secretKey(), err)
	}
	return owned, nil
}

func sameOwners(o metav1.Object, owners []metav1.OwnerReference) bool {
	return equality.Semantic.DeepEqual(o.GetOwnerReferences(), owners)
}
