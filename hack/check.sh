#!/usr/bin/env bash
# What a change should pass before it is pushed, without a cluster and without Envoy: `make check` runs all of it, and
# `hack/check.sh linted` one step. `make test` has everything else.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/steps.sh
. hack/steps.sh

# -short leaves out what starts Envoy. The packages below test/ test whole parts together.
unit() {
	local packages
	packages=$(go list ./... | grep -v '/test/')
	# shellcheck disable=SC2086
	go test -short $packages && go test -C hack ./...
}

all=(formatted vetted linted generated tidy vulnerabilities unit)
[ $# -gt 0 ] || set -- "${all[@]}"
for name in "$@"; do
	if [[ " ${all[*]} " != *" $name "* ]]; then
		printf 'hack/check.sh: %q is no step; there are: %s\n' "$name" "${all[*]}" >&2
		exit 2
	fi
	step "$name" "$name"
done
printf '\n── what took the time\n'
printf '%s\n' "${times[@]}"
