package conformance

import (
	"context"
	"flag"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// suiteNamespaces selects the namespaces of the suite's base manifests.
const suiteNamespaces = "gateway-conformance"

const setUpTimeout = 4 * time.Minute

// setUp installs the CRDs and then Mizzen; the end of the test takes all away again, in the order in which a user
// would: what uses the mesh, the mesh, the CRDs.
func setUp(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setUpTimeout)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.WaitAPI(ctx, time.Minute))
	must(removeNamespaces(ctx, c)) // of a run that was killed
	_, err := c.CoreV1().Namespaces().Get(ctx, cluster.SystemNamespace, metav1.GetOptions{})
	had := err == nil
	t.Cleanup(func() {
		if keep := flag.Lookup("cleanup-base-resources"); keep != nil && keep.Value.String() == "false" {
			t.Logf("Mizzen, the CRDs and the suite's namespaces stay in the cluster")
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
		defer cancel()
		for _, err := range []error{
			removeNamespaces(ctx, c),
			c.UninstallMizzen(ctx),
			removeNamespace(ctx, c, cluster.SystemNamespace, had),
			c.RemoveGatewayAPI(ctx),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	must(c.InstallGatewayAPI(ctx))
	must(c.InstallMizzen(ctx))
}

func removeNamespaces(ctx context.Context, c *cluster.Cluster) error {
	list, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: suiteNamespaces})
	if err != nil {
		return err
	}
	for _, ns := range list.Items {
		if err := removeNamespace(ctx, c, ns.Name, false); err != nil {
			return err
		}
	}
	return nil
}

// removeNamespace deletes a namespace, unless it is to be kept, and waits until it is gone.
func removeNamespace(ctx context.Context, c *cluster.Cluster, name string, keep bool) error {
	if keep {
		return nil
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return c.WaitNoNamespace(ctx, name, 2*time.Minute)
}
