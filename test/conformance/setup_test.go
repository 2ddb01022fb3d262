package conformance

import (
	"context"
	"encoding/binary"
	"flag"
	"net/netip"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// suiteNamespaces is a label that all namespaces of the suite get, also those that single tests make.
const suiteNamespaces = "mizzen-conformance"

const setUpTimeout = 4 * time.Minute

// unusableAddress is for documentation, so no load balancer has it: https://www.rfc-editor.org/rfc/rfc5737
const unusableAddress = "192.0.2.1"

// usableAddress returns an address that a Service of type LoadBalancer gets if it asks for it, and that no other Service
// has. The embedded cluster says what its load balancer gives out.
func usableAddress(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	// See hack/internal/components/files/bootstrap.yaml.
	info, err := c.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(t.Context(), "load-balancer", metav1.GetOptions{})
	if err != nil {
		t.Fatalf("not the embedded cluster, which says what its load balancer has? Then it takes -usable-address: %v", err)
	}
	addresses, err := netip.ParsePrefix(info.Data["addresses"])
	if err != nil {
		t.Fatal(err)
	}
	return highestHost(addresses).String()
}

// highestHost returns the last address of an IPv4 prefix but for the broadcast address.
func highestHost(p netip.Prefix) netip.Addr {
	first := p.Masked().Addr().As4()
	last := binary.BigEndian.Uint32(first[:]) | (1<<(32-p.Bits()) - 1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last-1)))
}

// keeps reports whether the flags say that what a run makes is to stay, for the next run to use again.
func keeps() bool {
	keep := flag.Lookup("cleanup-base-resources")
	return keep != nil && keep.Value.String() == "false"
}

// setUp installs the CRDs, of the experimental channel as the suite has tests of fields that the standard one lacks
// (`retry`), and then Mizzen; the end of the test takes all away again, in the order in which a user
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
	if !keeps() {
		must(removeNamespaces(ctx, c)) // of a run that was killed
	}
	_, err := c.CoreV1().Namespaces().Get(ctx, cluster.SystemNamespace, metav1.GetOptions{})
	had := err == nil
	t.Cleanup(func() {
		if keeps() {
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
	must(c.InstallExperimentalGatewayAPI(ctx))
	// The suite's Gateways, and pods with sidecars, ask for more CPU than a small node has.
	must(c.InstallMizzen(ctx, "gateway.defaults.replicas=1", "gateway.defaults.resources.requests.cpu=10m", "mesh.sidecar.resources.requests.cpu=10m"))
}

func removeNamespaces(ctx context.Context, c *cluster.Cluster) error {
	list, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: suiteNamespaces})
	if err != nil {
		return err
	}
	for _, ns := range list.Items { // all at once: their pods take their time to end
		if err := deleteNamespace(ctx, c, ns.Name); err != nil {
			return err
		}
	}
	for _, ns := range list.Items {
		if err := c.WaitNoNamespace(ctx, ns.Name, 2*time.Minute); err != nil {
			return err
		}
	}
	return nil
}

func deleteNamespace(ctx context.Context, c *cluster.Cluster, name string) error {
	err := c.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// removeNamespace deletes a namespace, unless it is to be kept, and waits until it is gone.
func removeNamespace(ctx context.Context, c *cluster.Cluster, name string, keep bool) error {
	if keep {
		return nil
	}
	if err := deleteNamespace(ctx, c, name); err != nil {
		return err
	}
	return c.WaitNoNamespace(ctx, name, 2*time.Minute)
}
