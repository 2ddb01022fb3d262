#!/usr/bin/env bash
# Everything that must pass: `make test` runs this. It prints what takes the time and ends with Go's
# own summary lines of the end-to-end tests, the last and longest step.
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=.build/tools/cluster
tools=$PWD/.build/tools

# shellcheck source=hack/steps.sh
. hack/steps.sh

# The packages but for the end-to-end tests, which need the cluster, and the feature tests. The slow ones come first, so that
# none of them is left at the end and has the machine for itself.
unit() {
	local packages
	packages=$({ go list ./test/mtls ./test/transparency ./xds ./xds/server ./cmd/mizzen-proxy; go list ./...; } |
		grep -vE '/test/(e2e|feature)$' | awk '!seen[$0]++')
	local log=.build/unit.log
	# shellcheck disable=SC2086
	MIZZEN_ENVOY=$tools/envoy MIZZEN_HELM=$tools/helm MIZZEN_PROMETHEUS=$tools go test $packages 2>&1 | tee "$log" || {
		printf '\n── what failed\n'
		without_passes "$log"
		return 1
	}
}

# What the output of `go test` has beside packages that pass, once more: it may be a small part of much.
without_passes() { grep -vE '^(ok|\?) |^go: downloading ' "$1" | cut -c 1-600 | tail -n 200; }

# They print figures, which Go shows with -v only.
features() { MIZZEN_ENVOY=$tools/envoy go test -count=1 -v ./test/feature | grep -vE '^=== |^ *server\.go:'; }

# The Gateway API's official suite. It says much: all of it goes to a file, and here what failed, what the report
# says and how long it took.
conformance() {
	local log=.build/conformance.log
	MIZZEN_CONFORMANCE=1 PATH=$tools:$PATH go test -count=1 -timeout 60m -parallel 4 -v ./test/conformance -run TestConformance >"$log" 2>&1 || {
		grep -E '^ *(--- FAIL|FAIL|panic:|(setup|conformance|report)_test\.go)' "$log" || tail -n 40 "$log"
		printf 'all of it is in %s\n' "$log"
		return 1
	}
	grep -hoE '(conformance: .*|^ok .*)' "$log"
}

# Data races show where goroutines meet. Left out are tests of internal/capture that wait for the kernel for most of a
# minute, with one connection at a time.
races() {
	local packages
	packages=$(concurrent)
	# shellcheck disable=SC2086
	MIZZEN_ENVOY=$tools/envoy go test -race -skip '^(TestOwnCalls|TestEarlyEnds|TestSilentConnectionsEnd|TestOutboundByUser)$' $packages
}

# What the tests that failed have said, again and in one place, for their output is long: the first lines of each message, because that of
# calls that failed says why on those that follow.
failures() {
	awk 'NR == FNR { if ($1 == "---" && $2 == "FAIL:") failed[$3] = 1; next }
		/^=== / { test = $3 }
		!(test in failed) { next }
		/^ *[a-z0-9_]+_test\.go:[0-9]+: / { print test ": " substr($0, 1, 600); more = 8; next }
		/^        / && more-- > 0 { print substr($0, 1, 600); next }
		{ more = 0 }' "$1" "$1"
}

# hack/kube is a module of its own; the rest of it is Kubernetes.
cluster_tests() { go test -C hack ./... && go test -C hack/kube ./loadbalancer; }

# The embedded cluster goes away again if this run started it.
started=
finish() { [ -z "$started" ] || "$cluster" down || true; }
trap finish EXIT

embedded() {
	[ -e .cluster/kubeconfig ] || started=1
	"$cluster" up
}

# The oldest Kubernetes that this one can be: its APIs and gates, on a cluster that goes away again.
older() {
	if [ -e .cluster/kubeconfig ]; then
		echo 'not run: a cluster of this checkout is up (make cluster-down)'
		return
	fi
	started=1
	"$cluster" up --emulated-version 1.34 && "$cluster" images --load && older_tests && "$cluster" down && started=
}

older_tests() {
	local log=.build/older.log
	MIZZEN_E2E=1 PATH=$tools:$PATH go test -count=1 -timeout 15m -v ./test/e2e \
		-run '^Test(Probes|LifecycleHooks|BadAnnotation|PodLevelOverride|Story)$' >"$log" 2>&1 || {
		failures "$log"
		return 1
	}
	tail -n 1 "$log"
}

step 'tools: Kubernetes, containerd, Envoy, Helm' "$cluster" tools
step 'what tests need beside: a browser, Prometheus' "$cluster" test-tools
step 'gofmt' formatted
step 'go vet' vetted
step 'go mod tidy' tidy
step 'golangci-lint' linted
step 'generated files' generated
step 'unit and golden tests' unit
step 'feature tests' features
step 'the same under the race detector' races
step 'tests of the embedded cluster' cluster_tests
step 'binaries' "$cluster" bin
if [ -z "${KUBECONFIG:-}" ]; then
	step 'an older Kubernetes' older
	step 'embedded cluster' embedded
	step 'images' "$cluster" images --load
	step "the conformance suite's images" "$cluster" conformance
	step 'the image of the real programs' "$cluster" programs
	step 'the release before' "$cluster" previous
fi
step 'conformance suite of the Gateway API' conformance

printf '\n── what took the time before the end-to-end tests\n'
printf '%s\n' "${times[@]}"

printf '\n── end-to-end tests\n'
log=.build/e2e.log
MIZZEN_E2E=1 PATH=$tools:$PATH go test -count=1 -timeout 60m -v ./test/e2e 2>&1 | tee "$log" || {
	printf '\n── what failed\n'
	failures "$log"
	tail -n 2 "$log"
	exit 1
}
