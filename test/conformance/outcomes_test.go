package conformance

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// outcomes of the suite's tests. The report does not name a test that needs features which are not all in one profile,
// not even one that failed: MeshFrontendHostname and MeshConsumerRoute, the only tests of cluster IP matching and of
// consumer routes, are such, and GRPCRouteNamedRule.
type outcomes struct {
	mu sync.Mutex
	of map[string]string
}

func newOutcomes() *outcomes { return &outcomes{of: map[string]string{}} }

// record is a hook of the suite, called when a test has ended.
func (o *outcomes) record(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
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
	return len(tests.ConformanceTests) - len(o.problems())
}

// problems names the tests that did not pass, in order.
func (o *outcomes) problems() []string {
	var out []string
	for _, test := range tests.ConformanceTests {
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
