#!/usr/bin/env bash
# Runs the end-to-end tests whose names match RUN, on the cluster of KUBECONFIG or on the embedded one, which it
# starts and leaves running: `make e2e RUN=Story` runs this. RUN is a regular expression for the name of a scenario,
# in any phase; what follows a slash selects subtests of the scenario.
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=.build/tools/cluster
tools=$PWD/.build/tools
run=${RUN:-}

# list PATTERN: prints the scenarios that a pattern of -run selects, with their phases. It needs no cluster.
list() {
	local out
	out=$(MIZZEN_E2E_LIST=1 go test -count=1 -v ./test/e2e -run "$1") || {
		printf '%s\n' "$out" >&2
		return 1
	}
	sed -n 's/^scenario //p' <<<"$out"
}

# TestE2E/<phase>/<scenario>/<subtest>: every phase, and what RUN selects. The parentheses keep an alternation in
# RUN from splitting the whole pattern.
scenario=${run%%/*}
pattern="TestE2E/./($scenario)${run#"$scenario"}"

selected=
[ -z "$scenario" ] || selected=$(list "$pattern")
if [ -z "$selected" ]; then
	printf 'RUN=%s selects no scenario. There are:\n' "$run" >&2
	list TestE2E | sed 's/^/  /' >&2
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
	# Only this phase needs the image with the real servers and clients.
	if grep -q '^programs/' <<<"$selected"; then "$cluster" programs; fi
fi
MIZZEN_E2E=1 PATH=$tools:$PATH go test -count=1 -timeout 60m -v ./test/e2e -run "$pattern"
