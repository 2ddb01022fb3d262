// Package kube asks the API server for the owner of a token, and the manager's cache for a pod's addresses. It may
// import internal/identity/issuer, internal/identity/api and Kubernetes clients.
package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
)

// Extra fields of a projected token's review, besides the user's name.
// https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
const (
	userPrefix  = "system:serviceaccount:"
	extraPrefix = "authentication.kubernetes.io/"
	podName     = extraPrefix + "pod-name"
	podUID      = extraPrefix + "pod-uid"
)

// Tokens reviews tokens. https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
type Tokens struct {
	Client authentication.TokenReviewInterface
}

// Review returns the owner of a token.
func (t *Tokens) Review(ctx context.Context, token string) (issuer.Caller, error) {
	review, err := t.Client.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{api.Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return issuer.Caller{}, err
	}
	return read(review.Status)
}

func read(s authenticationv1.TokenReviewStatus) (issuer.Caller, error) {
	refused := func(format string, args ...any) (issuer.Caller, error) {
		return issuer.Caller{}, fmt.Errorf("%w: %s", issuer.ErrToken, fmt.Sprintf(format, args...))
	}
	if !s.Authenticated {
		return refused("the API server refuses the token for the audience %q: %s", api.Audience, s.Error)
	}
	// An authenticator without support for audiences accepts a token for any audience.
	if !slices.Contains(s.Audiences, api.Audience) {
		return refused("the token is for the audiences %q; want %q", s.Audiences, api.Audience)
	}
	namespace, account, ok := strings.Cut(strings.TrimPrefix(s.User.Username, userPrefix), ":")
	if !ok || !strings.HasPrefix(s.User.Username, userPrefix) {
		return refused("the token belongs to user %q; want a service account", s.User.Username)
	}
	c := issuer.Caller{Namespace: namespace, ServiceAccount: account}
	for key, field := range map[string]*string{podName: &c.Pod, podUID: &c.UID} {
		values := s.User.Extra[key]
		if len(values) != 1 || values[0] == "" {
			return refused("the token is not bound to a pod (%s); want a projected token", key)
		}
		*field = values[0]
	}
	return c, nil
}
