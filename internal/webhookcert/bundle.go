package webhookcert

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// wantedBundle is what a caBundle must be. Normally exactly the state's certificates. When the
// state is only this replica's memory (the Secret cannot be read), whatever else is trusted stays:
// another replica may remember a later state, and the two must not undo each other's work.
func wantedBundle(current []byte, s rotation.State, authoritative bool) []byte {
	trusted := s.Trusted()
	if authoritative {
		return ca.EncodeCertificates(trusted...)
	}
	kept, err := ca.ParseCertificates(current)
	if err != nil {
		kept = nil
	}
	for _, c := range trusted {
		if !slices.ContainsFunc(kept, c.Equal) {
			kept = append(kept, c)
		}
	}
	return ca.EncodeCertificates(kept...)
}

// mendBundles writes the caBundle of every webhook that has another one and gives the names of those.
//
// Every replica does this, not only the leader: an erased caBundle refuses pods until it is mended.
// The resource version makes it safe. config was read before the state, so if the config is still
// the same at the write, the state is at least as new as the one the present caBundle was made from.
func mendBundles(ctx context.Context, c client.Client, config *admissionv1.MutatingWebhookConfiguration, s rotation.State, authoritative bool) ([]string, error) {
	patch := bundlePatch{}
	patch.Metadata.ResourceVersion = config.ResourceVersion
	var mended []string
	for _, w := range config.Webhooks {
		want := wantedBundle(w.ClientConfig.CABundle, s, authoritative)
		if bytes.Equal(w.ClientConfig.CABundle, want) {
			continue
		}
		mended = append(mended, w.Name)
		hook := webhookPatch{Name: w.Name}
		hook.ClientConfig.CABundle = want
		patch.Webhooks = append(patch.Webhooks, hook)
	}
	if len(mended) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	target := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: config.Name}}
	// The field manager comes to own the caBundle fields and nothing else, so that Helm, which applies the rest of the
	// object server-side and never names a caBundle, neither clears it nor meets a conflict.
	err = c.Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, data), client.FieldOwner(casecret.FieldManager))
	if err != nil {
		return nil, err
	}
	return mended, nil
}

// bundlePatch is a strategic merge patch; the API merges webhooks by name.
type bundlePatch struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Webhooks []webhookPatch `json:"webhooks"`
}

type webhookPatch struct {
	Name         string `json:"name"`
	ClientConfig struct {
		CABundle []byte `json:"caBundle"`
	} `json:"clientConfig"`
}

// verify tells whether an API server that trusts bundle accepts leaf under the first of its names.
func verify(leaf *x509.Certificate, bundle []byte, now time.Time) error {
	certs, err := ca.ParseCertificates(bundle)
	if err != nil {
		return err
	}
	if len(certs) == 0 {
		return errors.New("is empty")
	}
	roots := x509.NewCertPool()
	for _, c := range certs {
		roots.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		DNSName:     leaf.DNSNames[0],
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
