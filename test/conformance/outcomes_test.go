package conformance

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// outcomes of the suite's mesh tests. The report does not name a test that needs a feature outside of the
// profile, not even one that failed: MeshFrontendHostname and MeshConsumerRoute, the only tests of cluster IP
// matching and of consumer routes, are such.
type outcomes struct {
	mu sync.Mutex
	of map[string]string
}

func newOutcomes() *outcomes { return &outcomes{of: map[string]string{}} }

// record is a hook of the suite, called when a test has ended.
func (o *outcomes) record(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
	if !slices.Contains(test.Features, features.SupportMesh) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case t.Failed():
		o.of[test.ShortName] = "failed"
	case t.Skipped():
		o.of[test.ShortName] = "was skipped"
	default:
		o.of[test.ShortName] = "passed"
	}
}

func (o *outcomes) passed() int {
	return len(meshTests()) - len(o.problems())
}

// problems names the tests that did not pass, in order.
func (o *outcomes) problems() []string {
	var out []string
	for _, test := range meshTests() {
		switch outcome := o.of[test.ShortName]; outcome {
		case "passed":
		case "":
			out = append(out, fmt.Sprintf("%s did not run", test.ShortName))
		default:
			out = append(out, fmt.Sprintf("%s %s", test.ShortName, outcome))
		}
	}
	slices.Sort(out)
	return out
}
