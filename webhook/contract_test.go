package webhook

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// Whoever reads an injected pod learns what was set for it.
func TestInjectedPodsSayWhatIsSet(t *testing.T) {
	const controlPlane, identityServer = "mizzen-controller.mizzen-system.svc.cluster.local:15010", "mizzen-controller.mizzen-system.svc.cluster.local:15012"
	for name, c := range map[string]struct {
		annotations map[string]string
		captured    contract.Captured
		run         contract.Run
	}{
		"nothing": {nil, contract.Captured{ExcludeInboundPorts: []uint16{15020}}, contract.Run{}},
		"ports": {
			map[string]string{config.AnnotationExcludeInboundPorts: "9100,22", config.AnnotationExcludeOutboundPorts: "3306"},
			contract.Captured{ExcludeInboundPorts: []uint16{22, 9100, 15020}, ExcludeOutboundPorts: []uint16{3306}}, contract.Run{},
		},
		"ranges": {
			map[string]string{config.AnnotationExcludeOutboundCIDRs: "fd00::/8,10.0.0.0/8"},
			contract.Captured{
				ExcludeInboundPorts:  []uint16{15020},
				ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
			}, contract.Run{},
		},
		"proxy": {
			map[string]string{
				config.AnnotationLogLevel: "debug", config.AnnotationConcurrency: "3", config.AnnotationConfigScope: config.ScopeDemand, config.AnnotationLogAnswers: "true",
			},
			contract.Captured{ExcludeInboundPorts: []uint16{15020}},
			contract.Run{LogLevel: "debug", Concurrency: 3, ConfigScope: config.ScopeDemand, LogAnswers: true},
		},
	} {
		for _, identity := range []bool{false, true} {
			for _, byCNI := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, identity %v, CNI %v", name, identity, byCNI), func(t *testing.T) {
					mesh, err := config.Parse(fmt.Appendf(nil, "sidecar: {image: mizzen/proxy:test}\ncni: {enabled: %v}\nidentity: {enabled: %v}\n", byCNI, identity))
					if err != nil {
						t.Fatal(err)
					}
					want, bundle := c.run, ""
					want.ControlPlane, want.CaptureByCNI, want.AwaitCapture = controlPlane, byCNI, identity && !byCNI
					want.LogLevel, want.Concurrency = cmp.Or(want.LogLevel, "warning"), cmp.Or(want.Concurrency, 2)
					captured := c.captured
					captured.CapturesOwnCalls = identity
					if identity {
						want.IdentityAddress, bundle = identityServer, "roots"
					}
					pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Annotations: c.annotations}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
					out, _, err := Inject(pod, Namespace{}, mesh, testVersion, []byte(bundle), testKey)
					if err != nil {
						t.Fatal(err)
					}
					if got, err := sidecar.Captured(&out.Spec); err != nil || !reflect.DeepEqual(got, captured) || sidecar.CapturedByCNI(out) != byCNI {
						t.Errorf("captured %+v, %v, by its node %v; want %+v", got, err, sidecar.CapturedByCNI(out), captured)
					}
					if got, ok := sidecar.TrustBundle(&out.Spec); got != bundle || ok != identity {
						t.Errorf("trust bundle %q, %v, want %q", got, ok, bundle)
					}
					var run contract.Run
					f := pflag.NewFlagSet("", pflag.ContinueOnError)
					f.ParseErrorsAllowlist.UnknownFlags = true
					run.Add(f, nil)
					if err := f.Parse(sidecar.Proxy(&out.Spec).Args); err != nil || run != want {
						t.Errorf("run %+v, %v, want %+v", run, err, want)
					}
				})
			}
		}
	}
}
