#!/usr/bin/env bash
# Runs the end-to-end tests whose names match RUN, on the cluster of KUBECONFIG or on the embedded one, which it
# starts and leaves running: `make e2e RUN=Story` runs this. RUN is what `go test -run` takes: a regular expression for
# the names of tests; what follows a slash selects subtests.
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=.build/tools/cluster
tools=$PWD/.build/tools
run=${RUN:-}

# list PATTERN: prints the tests on a cluster that a pattern of -run selects. It needs no cluster.
list() {
	local out
	out=$(MIZZEN_E2E_LIST=1 go test -count=1 -v ./test/e2e -run "$1") || {
		printf '%s\n' "$out" >&2
		return 1
	}
	sed -n 's/^scenario //p' <<<"$out"
}

selected=
[ -z "$run" ] || selected=$(list "${run%%/*}")
if [ -z "$selected" ]; then
	printf 'RUN=%s selects no test. There are:\n' "$run" >&2
	list . | sed 's/^/  /' >&2
	exit 1
fi
printf 'selected:\n'
printf '%s\n' "$selected" | sed 's/^/  /'
[ -z "${LIST:-}" ] || exit 0 # LIST=1: the names only

if [ -z "${KUBECONFIG:-}" ]; then
	"$cluster" tools
	"$cluster" up
	"$cluster" bin
	"$cluster" images --load
	# Only this test needs the image with the real servers and clients.
	if grep -q '^Programs$' <<<"$selected"; then "$cluster" programs; fi
	if grep -q '^UpgradeFromPrevious$' <<<"$selected"; then "$cluster" previous; fi
fi
MIZZEN_E2E=1 PATH=$tools:$PATH go test -count=1 -timeout 60m -v ./test/e2e -run "$run"
