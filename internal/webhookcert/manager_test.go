package webhookcert

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

func TestManyReplicasStartTogetherWithOneCA(t *testing.T) {
	w := newWorld(t, webhookConfig())
	var replicas []*replica
	for range 5 {
		replicas = append(replicas, w.replica(testPolicy, false))
	}
	var wg sync.WaitGroup
	for _, r := range replicas {
		wg.Go(func() {
			for {
				_, err := r.Reconcile(t.Context(), request)
				if err == nil {
					return
				}
				if !apierrors.IsConflict(err) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	signer := w.state().Signer
	for i, r := range replicas {
		w.reconcile(r)
		if !r.secret.State().Signer.Equal(signer) {
			t.Errorf("replica %d has another CA", i)
		}
		wantReady(t, r)
	}
	if owners := w.Secret().OwnerReferences; len(owners) != 1 || owners[0].Kind != "Service" {
		t.Errorf("owners of the Secret: %v", owners)
	}
}

func TestLeafNamesAndRenewalWithoutTheAPIServer(t *testing.T) {
	w := newWorld(t, webhookConfig())
	r := w.replica(testPolicy, true)
	if _, err := r.GetCertificate(nil); err == nil {
		t.Fatal("a certificate without a CA")
	}
	w.reconcile(r)
	first := w.leaf(r)
	want := []string{"mizzen-controller.mizzen-system.svc", "mizzen-controller.mizzen-system.svc.cluster.local"}
	if strings.Join(first.DNSNames, " ") != strings.Join(want, " ") {
		t.Errorf("names %v, want %v", first.DNSNames, want)
	}
	w.Now = w.Now.Add(testPolicy.LeafLifetime/2 - time.Second)
	if !w.leaf(r).Equal(first) {
		t.Error("renewed before half of its life")
	}
	w.Now = w.Now.Add(time.Second)
	second := w.leaf(r)
	if second.Equal(first) || !second.NotAfter.After(first.NotAfter) {
		t.Error("not renewed at half of its life")
	}
	wantReady(t, r)
}

func TestCABundleIsMended(t *testing.T) {
	w := newWorld(t, webhookConfig())
	r := w.replica(testPolicy, false)
	w.reconcile(r)
	stranger, err := testPolicy.Generate(epoch)
	if err != nil {
		t.Fatal(err)
	}
	want := ca.EncodeCertificates(w.state().Trusted()...)
	for name, damage := range map[string][]byte{
		"erased": nil, "another CA": stranger.Signer.CertPEM(), "one too many": append(bytes.Clone(want), stranger.Signer.CertPEM()...), "text": []byte("x"),
	} {
		w.setBundles(damage)
		w.reconcile(r)
		for _, hook := range w.config().Webhooks {
			if !bytes.Equal(hook.ClientConfig.CABundle, want) {
				t.Errorf("%s: %s is not mended", name, hook.Name)
			}
			if hook.ClientConfig.Service == nil || hook.SideEffects == nil {
				t.Errorf("%s: %s lost a field that is not ours", name, hook.Name)
			}
		}
		wantReady(t, r)
	}
	if got := w.Metric(r.Replica, "mizzen_webhook_ca_bundle_mended_total", ""); got != 2+4*2 {
		t.Errorf("mended metric %v, want 10", got)
	}
}

func TestReadyFollowsTheCABundle(t *testing.T) {
	w := newWorld(t)
	r := w.replica(testPolicy, false)
	if err := r.Ready(); err == nil {
		t.Error("ready before the first look")
	}
	w.reconcile(r)
	wantReady(t, r) // no configuration: no admission can fail
	if r.Note() == "" {
		t.Error("nothing says that there is no MutatingWebhookConfiguration")
	}
	if err := w.Client.Create(t.Context(), webhookConfig()); err != nil {
		t.Fatal(err)
	}
	r.look(w.config())
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "namespaces.injection") && !strings.Contains(err.Error(), "pods.injection") {
		t.Errorf("with an empty caBundle: %v", err)
	}
	w.reconcile(r)
	wantReady(t, r)
	if n := r.Note(); n != "" {
		t.Errorf("note %q", n)
	}
}

func TestCorruptSecret(t *testing.T) {
	stranger, err := testPolicy.Generate(epoch)
	if err != nil {
		t.Fatal(err)
	}
	strangerKey, err := stranger.Signer.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, key string
		value     []byte
		reason    string
	}{
		{"another's key", keySignerKey, strangerKey, "KeyMismatch"},
		{"no key", keySignerKey, nil, "Unparsable"},
		{"text for a certificate", keySignerCert, []byte("hello"), "Unparsable"},
		{"next without a key", rotation.KeyNextCert, stranger.Signer.CertPEM(), "Unparsable"},
		{"text in previous", rotation.KeyPrevious, []byte("hello"), "Unparsable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, webhookConfig())
			r := w.replica(testPolicy, true)
			w.reconcile(r)
			before, bundle := w.leaf(r), w.config().Webhooks[0].ClientConfig.CABundle
			w.setSecretData(tt.key, tt.value)
			corrupt := w.Secret().ResourceVersion
			w.reconcile(r)
			w.reconcile(r)
			if !w.leaf(r).Equal(before) {
				t.Error("the replica serves another certificate")
			}
			wantReady(t, r)
			if !strings.Contains(r.Note(), tt.key) {
				t.Errorf("note %q does not name %s", r.Note(), tt.key)
			}
			if w.Secret().ResourceVersion != corrupt {
				t.Error("the Secret was overwritten")
			}
			w.setBundles(nil)
			w.reconcile(r)
			if !bytes.Equal(w.config().Webhooks[0].ClientConfig.CABundle, bundle) {
				t.Error("the caBundle is not mended from memory")
			}
			wantEvents(t, r, 1, "WebhookCA"+tt.reason)
			if got := w.Metric(r.Replica, "mizzen_webhook_ca_secret_errors_total", tt.reason); got != 3 {
				t.Errorf("error metric %v, want 3", got)
			}
			fresh := w.replica(testPolicy, false)
			w.reconcile(fresh)
			if err := fresh.Ready(); err == nil || !strings.Contains(err.Error(), tt.key) || !strings.Contains(err.Error(), "delete the Secret") {
				t.Errorf("a fresh replica's readiness: %v", err)
			}
			w.DeleteSecret()
			w.reconcile(r)
			w.reconcile(fresh)
			wantReady(t, fresh)
			if !w.leaf(r).Equal(before) {
				t.Error("the CA was not restored from memory")
			}
		})
	}
}

func wantEvents(t *testing.T, r *replica, n int, reason string) {
	t.Helper()
	if got := len(r.Recorder.Events); got != n {
		t.Fatalf("%d events, want %d", got, n)
	}
	if e := <-r.Recorder.Events; !strings.Contains(e, reason) {
		t.Errorf("event %q, want %s", e, reason)
	}
}

// Two replicas whose memories differ must not undo each other's caBundle.
func TestMemoriesThatDifferDoNotFight(t *testing.T) {
	w := newWorld(t, webhookConfig())
	a, b := w.replica(testPolicy, true), w.replica(testPolicy, false)
	w.reconcile(a)
	w.reconcile(b)
	w.Now = w.Now.Add(61 * time.Minute)
	w.reconcile(a) // makes next
	w.reconcile(a) // puts it into the caBundle; b has not seen it
	w.setSecretData(keySignerKey, nil)
	w.setBundles(nil)
	w.reconcile(b)
	w.reconcile(a)
	settled := w.config()
	w.reconcile(b)
	w.reconcile(a)
	if w.config().ResourceVersion != settled.ResourceVersion {
		t.Error("the replicas go on writing the caBundle")
	}
	certs, err := ca.ParseCertificates(settled.Webhooks[0].ClientConfig.CABundle)
	if err != nil || len(certs) != 2 {
		t.Errorf("caBundle holds %d certificates (%v), want signer and next", len(certs), err)
	}
}

func TestDeletedSecret(t *testing.T) {
	w := newWorld(t, webhookConfig())
	r := w.replica(testPolicy, false)
	w.reconcile(r)
	signer := w.state().Signer
	w.DeleteSecret()

	fresh := w.replica(testPolicy, false)
	if res := w.reconcile(fresh); res.RequeueAfter == 0 || res.RequeueAfter > restoreGrace {
		t.Errorf("a fresh replica looks again after %s", res.RequeueAfter)
	}
	w.reconcile(r)
	w.reconcile(fresh)
	if !w.state().Signer.Equal(signer) || !fresh.secret.State().Signer.Equal(signer) {
		t.Error("the Secret was not restored from memory")
	}

	w.DeleteSecret()
	alone := w.replica(testPolicy, false)
	w.reconcile(alone)
	w.Now = w.Now.Add(restoreGrace)
	w.reconcile(alone)
	if w.state().Signer.Equal(signer) {
		t.Error("where nobody remembers the CA, a new one must be made")
	}
	wantReady(t, alone)
}

func TestNothingIsRestoredWhileTheReleaseIsUninstalled(t *testing.T) {
	w := newWorld(t, webhookConfig())
	r := w.replica(testPolicy, true)
	w.reconcile(r)
	w.DeleteSecret()
	w.Uninstalled = true
	if _, err := r.Reconcile(t.Context(), request); err == nil {
		t.Error("no error")
	}
	w.Uninstalled = false
	w.reconcile(r)
	w.state()
}

func TestExpiredCAIsReplacedByTheLeader(t *testing.T) {
	w := newWorld(t, webhookConfig())
	w.reconcile(w.replica(testPolicy, true))
	old := w.state().Signer
	w.Now = w.Now.Add(24 * time.Hour) // the whole cluster slept

	follower, leader := w.replica(testPolicy, false), w.replica(testPolicy, true)
	w.reconcile(follower)
	if err := follower.Ready(); err == nil {
		t.Error("ready with an expired CA")
	}
	w.reconcile(leader)
	w.reconcile(leader)
	w.reconcile(follower)
	if w.state().Signer.Equal(old) {
		t.Fatal("the expired CA is still in use")
	}
	wantReady(t, leader)
	wantReady(t, follower)
	wantEvents(t, leader, 1, "WebhookCAExpired")
}
