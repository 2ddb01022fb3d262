package authority

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// theRecord is nil if there is none.
func (w *world) theRecord() *corev1.ConfigMap {
	w.T.Helper()
	c := &corev1.ConfigMap{}
	err := w.Client.Get(w.T.Context(), client.ObjectKey{Namespace: testNamespace, Name: testSecret}, c)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.T.Fatal(err)
	}
	return c
}

func TestRecord(t *testing.T) {
	w := newWorld(t)
	one, two := w.replica(true), w.replica(false)
	w.reconcile(one, two)
	c := w.theRecord()
	if c == nil || c.Data[keyRoots] != roots(one) || len(c.Data) != 1 || len(c.OwnerReferences) != 1 {
		t.Fatalf("record %+v", c)
	}
	w.reconcile(one, two)
	if again := w.theRecord(); again.ResourceVersion != c.ResourceVersion {
		t.Error("it is written without need")
	}
	for w.Now.Before(epoch.Add(testPolicy.CALifetime)) && len(one.view.Load().state.Trusted()) == 1 {
		w.after(time.Minute, one, two)
	}
	if c := w.theRecord(); c.Data[keyRoots] != roots(one) || strings.Count(c.Data[keyRoots], "BEGIN") != 2 {
		t.Error("it does not have the roots of a rotation")
	}
	if err := w.Client.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.reconcile(one)
	if w.theRecord() == nil {
		t.Error("it is not restored")
	}
}

// With nobody left who remembers the CA, no other takes its place until somebody says so.
func TestLostCAIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	w.reconcile(w.replica(true))
	lost := w.Secret()
	w.DeleteSecret()
	fresh := w.replica(true)
	w.after(restoreGrace, fresh)
	w.after(time.Hour, fresh)
	if w.HasSecret() {
		t.Fatal("there is a new CA")
	}
	advice := []string{"is missing", "restore it from a backup", "delete the ConfigMap mizzen-system/mizzen-ca", "restart all pods"}
	told := fresh.Recorder.Events
	if len(told) != 1 {
		t.Fatalf("%d events, want 1", len(told))
	}
	logged := ""
	for len(fresh.Logged) > 0 {
		logged += <-fresh.Logged
	}
	for name, text := range map[string]string{"event": <-told, "readiness": fresh.Ready().Error(), "log": logged} {
		for _, want := range advice {
			if !strings.Contains(text, want) {
				t.Errorf("%s %q does not say %q", name, text, want)
			}
		}
	}
	if w.Metric(fresh.Replica, "mizzen_identity_ca_secret_errors_total", "Missing") == 0 || w.Metric(fresh.Replica, "mizzen_identity_ca_secret_usable", "") != 0 {
		t.Error("not counted")
	}
	t.Run("restored from a backup", func(t *testing.T) {
		lost.ResourceVersion = ""
		if err := w.Client.Create(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		w.reconcile(fresh)
		if fresh.Ready() != nil || fresh.Note() != "" || roots(fresh) != string(lost.Data[keyRoots]) {
			t.Errorf("ready %v, note %q", fresh.Ready(), fresh.Note())
		}
	})
	t.Run("begun anew", func(t *testing.T) {
		w.DeleteSecret()
		again := w.replica(true)
		w.after(time.Minute, again)
		if w.HasSecret() {
			t.Fatal("there is a new CA")
		}
		if err := w.Client.Delete(t.Context(), w.theRecord()); err != nil {
			t.Fatal(err)
		}
		w.reconcile(again)
		if again.Ready() != nil || again.Note() != "" || roots(again) == string(lost.Data[keyRoots]) || w.theRecord().Data[keyRoots] != roots(again) {
			t.Errorf("ready %v, note %q", again.Ready(), again.Note())
		}
	})
}

// What a release that is gone has left means nothing, and what this one makes goes with it.
func TestRecordOfAnotherRelease(t *testing.T) {
	stale := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testSecret,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: "mizzen-controller", UID: "0"}}}}
	w := newWorld(t, stale)
	r := w.replica(true)
	w.reconcile(r)
	if r.Ready() != nil {
		t.Errorf("a new installation does not begin: %v", r.Ready())
	}
	if c := w.theRecord(); len(c.OwnerReferences) != 1 || c.OwnerReferences[0].UID != "1" || c.Data[keyRoots] != roots(r) {
		t.Errorf("record %+v", c)
	}
	w.Uninstalled = true
	w.DeleteSecret()
	if err := w.Client.Delete(t.Context(), w.theRecord()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reconcile(t.Context(), request); err == nil || w.HasSecret() || w.theRecord() != nil {
		t.Errorf("something is left behind after an uninstall: %v", err)
	}
}

// Whether there is a record must be known.
func TestRecordCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.Client = interceptor.NewClient(w.Client.(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.ConfigMap); ok {
				return errors.New("forbidden")
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	r := w.replica(true)
	if _, err := r.Reconcile(t.Context(), request); err == nil || !strings.Contains(err.Error(), "forbidden") || w.HasSecret() {
		t.Errorf("error %v, Secret made: %v", err, w.HasSecret())
	}
}

// What is kept has no owner that could take it along, whatever an earlier installation gave it; and what is not
// kept goes with the release again.
func TestKept(t *testing.T) {
	w := newWorld(t)
	w.reconcile(w.replica(true))
	if len(w.Secret().OwnerReferences) != 1 || len(w.theRecord().OwnerReferences) != 1 {
		t.Fatalf("not kept: Secret %v, ConfigMap %v; want one owner each", w.Secret().OwnerReferences, w.theRecord().OwnerReferences)
	}
	ca := string(w.Secret().Data[keyRoots])
	w.keep = true
	upgraded := w.replica(true)
	w.reconcile(w.replica(false))
	if len(w.Secret().OwnerReferences) != 1 {
		t.Error("a replica that does not lead has written the Secret")
	}
	w.reconcile(upgraded)
	if len(w.Secret().OwnerReferences)+len(w.theRecord().OwnerReferences) != 0 {
		t.Errorf("kept: Secret %v, ConfigMap %v; want no owner", w.Secret().OwnerReferences, w.theRecord().OwnerReferences)
	}
	w.Uninstalled = true
	w.reconcile(upgraded)
	w.Uninstalled = false
	again := w.replica(true)
	w.reconcile(again)
	if roots(again) != ca {
		t.Error("the next installation has another root")
	}
	w.keep = false
	w.reconcile(w.replica(true))
	if len(w.Secret().OwnerReferences) != 1 || len(w.theRecord().OwnerReferences) != 1 {
		t.Errorf("not kept any more: Secret %v, ConfigMap %v; want one owner each", w.Secret().OwnerReferences, w.theRecord().OwnerReferences)
	}
}

// A Secret of somebody else keeps the owners that it has.
func TestOwnersOfSomebodyElsesSecret(t *testing.T) {
	w := newWorld(t)
	w.keep = true
	root := w.newRoot(1000 * time.Hour)
	theirs := ownSecret(w.data(root, root))
	theirs.OwnerReferences = []metav1.OwnerReference{{APIVersion: "cert-manager.io/v1", Kind: "Certificate", Name: "mesh", UID: "7"}}
	if err := w.Client.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	r := w.replica(true)
	w.reconcile(r)
	if r.Ready() != nil || len(w.Secret().OwnerReferences) != 1 {
		t.Errorf("ready %v, owners %v", r.Ready(), w.Secret().OwnerReferences)
	}
}

// A revision uses the CA of the main control plane and writes nothing, whatever is missing and whoever owns what is there.
func TestReadOnly(t *testing.T) {
	w := newWorld(t)
	w.readOnly = true
	revision := w.replica(false)
	w.reconcile(revision)
	if err := revision.Ready(); err == nil || !strings.Contains(err.Error(), "the main control plane makes it") || w.HasSecret() {
		t.Fatalf("ready: %v, Secret %t; want neither", err, w.HasSecret())
	}
	w.readOnly, w.keep = false, true
	main := w.replica(true)
	w.reconcile(main, revision)
	if err := revision.Ready(); err != nil || revision.Signer() != main.Signer() {
		t.Fatalf("ready: %v, it signs with %s, want %s", err, revision.Signer(), main.Signer())
	}
	before, record := w.Secret(), &corev1.ConfigMap{}
	key := client.ObjectKeyFromObject(before)
	if err := w.Client.Get(t.Context(), key, record); err != nil {
		t.Fatal(err)
	}
	// This replica was not told to keep the CA, and would give it an owner.
	w.after(testPolicy.CALifetime, revision)
	after, recordAfter := w.Secret(), &corev1.ConfigMap{}
	if err := w.Client.Get(t.Context(), key, recordAfter); err != nil {
		t.Fatal(err)
	}
	if before.ResourceVersion != after.ResourceVersion || record.ResourceVersion != recordAfter.ResourceVersion {
		t.Errorf("it has written the Secret (version %s, was %s) or the record (%s, was %s)", after.ResourceVersion, before.ResourceVersion, recordAfter.ResourceVersion, record.ResourceVersion)
	}
	// The Secret that is gone is restored by others only.
	if err := w.Client.Delete(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	w.reconcile(revision)
	if w.HasSecret() || revision.Signer() == "" {
		t.Errorf("Secret restored: %t, signer %q; want none, and that it goes on with the CA in memory", w.HasSecret(), revision.Signer())
	}
}
