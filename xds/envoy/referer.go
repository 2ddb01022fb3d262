package envoy

import (
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Envoy removes a Referer that it does not take for a URL, for example one with "_" in the host's name, one with a fragment,
// or "about:blank". It has no setting for that (https://github.com/envoyproxy/envoy/issues/43825). So each Referer is copied
// before Envoy checks it, and routes restore it if it was removed.

// refererHeader is the copy. A client's value is removed, and no server ever sees the header.
const refererHeader = "x-mizzen-referer"

// copyReferer copies the Referer before Envoy checks it.
func copyReferer(m *hcmv3.HttpConnectionManager) {
	m.EarlyHeaderMutationExtensions = append(m.EarlyHeaderMutationExtensions, earlyMutation(&earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_Remove{Remove: refererHeader}},
		{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{ // it adds nothing without a Referer
			Header: &corev3.HeaderValue{Key: refererHeader, Value: "%REQ(referer)%"},
		}}},
	}})...)
}

// refererAgain restores the Referer. It belongs to virtual hosts: Envoy changes headers first for the route, then for the
// virtual host, and then for the whole configuration, which removes the copy.
var refererAgain = []*corev3.HeaderValueOption{{
	Header:       &corev3.HeaderValue{Key: "referer", Value: "%REQ(" + refererHeader + ")%"},
	AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
}}

// removed returns the headers that a change removes. With the Referer it removes the copy, too.
func removed(change mesh.HeaderChange) []string {
	if slices.ContainsFunc(change.Remove, func(name string) bool { return strings.EqualFold(name, "referer") }) {
		return append(slices.Clone(change.Remove), refererHeader)
	}
	return change.Remove
}
