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

// Envoy takes a Referer out that is no URL in its eyes, as with "_" in the host's name, a fragment, or "about:blank", and has
// no setting for it (https://github.com/envoyproxy/envoy/issues/43825). So each is copied before Envoy looks, and routes
// write it again where it is gone.

// refererHeader is the copy. Whatever a client sends in it is removed, and no server ever sees it.
const refererHeader = "x-mizzen-referer"

// copyReferer is done before Envoy looks.
func copyReferer(m *hcmv3.HttpConnectionManager) {
	m.EarlyHeaderMutationExtensions = append(m.EarlyHeaderMutationExtensions, earlyMutation(&earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_Remove{Remove: refererHeader}},
		{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{ // nothing where there is none
			Header: &corev3.HeaderValue{Key: refererHeader, Value: "%REQ(referer)%"},
		}}},
	}})...)
}

// refererAgain is for virtual hosts: Envoy changes headers for a route before, and for the whole configuration, which
// removes the copy, after.
var refererAgain = []*corev3.HeaderValueOption{{
	Header:       &corev3.HeaderValue{Key: "referer", Value: "%REQ(" + refererHeader + ")%"},
	AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
}}

// removed are the headers that a change removes: of a Referer the copy, too.
func removed(change mesh.HeaderChange) []string {
	if slices.ContainsFunc(change.Remove, func(name string) bool { return strings.EqualFold(name, "referer") }) {
		return append(slices.Clone(change.Remove), refererHeader)
	}
	return change.Remove
}
