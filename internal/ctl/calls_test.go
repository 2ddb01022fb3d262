package ctl

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What the sources say, the first of them for each setting, is what the rule does: the sources that are shown
// are those that count.
func TestCallSourcesAreWhatHolds(t *testing.T) {
	content := readFile(t, "testdata/routes/settings-and-their-sources/in.yaml")
	r := readObjects([]source{{"in.yaml", content}}, "default")
	w := newWorld(objects{}.with(r.objects), config.Default())
	rules := w.Rules(cartKey)
	seen := 0
	for _, port := range rules {
		for _, rule := range port.Producer {
			if len(rule.Action.Backends) == 0 {
				continue
			}
			seen++
			var said config.Calls
			for _, s := range mesh.CallSources(rule.Origin, &cartKey, w.Inputs(cartKey)) {
				said = said.Or(s.Calls)
			}
			got := rule.Action.Calls
			if said.Timeout == nil || got.Timeout != *said.Timeout || got.RetryBackoff != *said.RetryBackoff ||
				len(got.RetryOn)+len(got.RetryStatuses) != len(said.RetryOn) {
				t.Errorf("%s: the rule has %+v, the sources %+v", rule.Origin, got, said)
			}
		}
	}
	if seen < 4 {
		t.Errorf("only %d rules", seen)
	}
}
