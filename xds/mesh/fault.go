package mesh

import (
	"fmt"
	"strings"
)

// fault is something in a route that cannot be used.
type fault struct {
	// field is the path from the object, value its value, want what is allowed.
	field, value, want string
	// route is set for an unknown value, for which the specification refuses the whole route. Otherwise only the rule is
	// dropped.
	route bool
}

func (f fault) String() string { return fmt.Sprintf("%s: %q: want %s", f.field, f.value, f.want) }

// faults collects the faults of one rule or route.
type faults []fault

func (f *faults) add(field string, value any, want string) {
	*f = append(*f, fault{field: field, value: fmt.Sprint(value), want: want})
}

// unknown refuses the whole route: "Unknown values here must result in the implementation setting the
// Accepted Condition for the Route to status: False, with a Reason of UnsupportedValue".
func (f *faults) unknown(field string, value any, want string) {
	*f = append(*f, fault{field: field, value: fmt.Sprint(value), want: want, route: true})
}

func (f faults) refuseRoute() bool {
	for _, one := range f {
		if one.route {
			return true
		}
	}
	return false
}

func (f faults) String() string {
	texts := make([]string, len(f))
	for i, one := range f {
		texts[i] = one.String()
	}
	return strings.Join(texts, "; ")
}
