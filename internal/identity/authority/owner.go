package authority

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// secretOwners are those of a Secret that is made here. Somebody else's, which is restored, has none.
func (m *Manager) secretOwners(ctx context.Context, secret *corev1.Secret) ([]metav1.OwnerReference, error) {
	if !managed(secret) {
		return nil, nil
	}
	return m.owners(ctx)
}

// own gives a Secret of ours its owners where it has others: those of an installation with another Keep, or of
// one that is gone, with which garbage collection would take it away. Somebody else's Secret is left as it is.
func (m *Manager) own(ctx context.Context) error {
	if !managed(m.secret.Secret()) || !m.opts.IsLeader() {
		return nil
	}
	owners, err := m.owners(ctx)
	if err != nil {
		return fmt.Errorf("owner for Secret %s: %w", m.opts.Key(), err)
	}
	return m.secret.SetOwners(ctx, owners)
}
