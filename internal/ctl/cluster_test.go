package ctl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A cluster without the Gateway API has no routes; one with older CRDs has ReferenceGrants of v1beta1; any other
// failure is told with what was asked for.
func TestReadCluster(t *testing.T) {
	grant := &gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	absent := &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: gatewayv1.GroupName}}
	read := func(fail func(client.ObjectList) error) (objects, unread, error) {
		c := fake.NewClientBuilder().WithScheme(kubescheme.New()).WithObjects(grant, route).WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if err := fail(list); err != nil {
					return err
				}
				return c.List(ctx, list, opts...)
			},
		}).Build()
		return readCluster(context.Background(), c)
	}
	got, missing, err := read(func(list client.ObjectList) error {
		if strings.HasPrefix(gvkOf(t, list).Group, "gateway") {
			return absent
		}
		return nil
	})
	if err != nil || len(got) > 0 || missing[mesh.KindGateway] == nil || len(missing.notes()) > 0 {
		t.Errorf("no CRDs: %+v, %v", got, err)
	}
	got, missing, err = read(func(list client.ObjectList) error {
		if gvkOf(t, list) == schema.GroupVersion(gatewayv1.GroupVersion).WithKind("ReferenceGrantList") {
			return absent
		}
		return nil
	})
	grants := of[*gatewayv1.ReferenceGrant](got)
	if err != nil || len(grants) != 1 || grants[0].Name != "b" || len(of[*gatewayv1.HTTPRoute](got)) != 1 || len(missing) > 0 {
		t.Errorf("old CRDs: %+v, %v", got, err)
	}
	got, missing, err = read(func(list client.ObjectList) error {
		if kind := gvkOf(t, list).Kind; kind == "GatewayList" || kind == "NamespaceList" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("not for you"))
		}
		return nil
	})
	if notes := strings.Join(missing.notes(), "\n"); err != nil || len(got) != 1 || strings.Count(notes, "not for you") != 2 || !strings.Contains(notes, "list Gateways: ") {
		t.Errorf("few rights: %v, %v\n%s", got, err, notes)
	}
	for _, kind := range []string{"Service", "HTTPRoute", "GRPCRoute", "ReferenceGrant", "Gateway", "ListenerSet"} {
		_, _, err = read(func(list client.ObjectList) error {
			if gvkOf(t, list).Kind == kind+"List" {
				return errors.New("forbidden")
			}
			return nil
		})
		if err == nil || err.Error() != "list "+kind+"s: forbidden" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func gvkOf(t *testing.T, list client.ObjectList) schema.GroupVersionKind {
	t.Helper()
	if said := list.GetObjectKind().GroupVersionKind(); said.Kind != "" { // metadata alone
		return said
	}
	kinds, _, err := kubescheme.New().ObjectKinds(list)
	if err != nil {
		t.Fatal(err)
	}
	return kinds[0]
}

// A cluster that nobody named may be away; one that the command line names may not.
func TestWhichCluster(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
	if _, report, err := run(service, "check", "-f", "-"); err != nil || !strings.Contains(report, "note: checking the files alone, because no cluster can be read: no cluster: found no kubeconfig") {
		t.Errorf("%v\n%s", err, report)
	}
	for _, args := range [][]string{
		{"check", "-f", "-", "--kubeconfig", filepath.Join(dir, "other")}, {"check", "-f", "-", "--context", "other"}, {"routes", "a"},
	} {
		if _, _, err := run(service, args...); err == nil || !strings.HasPrefix(err.Error(), "no cluster: ") {
			t.Errorf("%v: %v", args, err)
		}
	}
	config := filepath.Join(dir, "config")
	content := "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, namespace: from-context}}]\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := (&clusterFlags{kubeconfig: config}).defaultNamespace(); got != "from-context" {
		t.Errorf("namespace %q", got)
	}
	if got := (&clusterFlags{kubeconfig: config, namespace: "flag"}).defaultNamespace(); got != "flag" {
		t.Errorf("namespace %q", got)
	}
}
