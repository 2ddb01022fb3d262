# shellcheck shell=bash
# What hack/check.sh and hack/test.sh both run. To be sourced from the root of the repository.

golangci=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
times=()

# step NAME COMMAND ...: runs it, notes how long it took, and stops everything if it fails.
step() {
	local name=$1 began=$SECONDS
	shift
	printf '\n── %s\n' "$name"
	if ! "$@"; then
		printf '\n✗ %s failed\n' "$name" >&2
		exit 1
	fi
	times+=("$(printf '%6d s  %s' $((SECONDS - began)) "$name")")
}

formatted() {
	local files
	files=$(gofmt -l api cmd config examples hack internal test webhook xds)
	[ -z "$files" ] || { printf 'gofmt -w these:\n%s\n' "$files"; return 1; }
}

vetted() { go vet ./... && go vet -C hack ./...; }

tidy() { go mod tidy -diff && go -C hack mod tidy -diff; }

# The first time it builds golangci-lint and reads every package and what these import, which takes minutes; Go's build
# cache keeps the program, and golangci-lint's cache what it has seen.
linted() { go run "$golangci" run ./...; }

# sums of the files that `make generate` writes.
generated_sums() {
	find api charts/mizzen/crds-generated docs/reference.md docs/metrics.md -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
}

# It compares with the files as they are and not with a commit, so that it can be asked before one.
generated() {
	local before after
	before=$(generated_sums) && go generate ./api/... ./config ./cmd/... ./internal/agent && after=$(generated_sums) || return 1
	diff <(echo "$before") <(echo "$after") || {
		echo 'These were not fresh and are now: look at them with git diff.'
		return 1
	}
}

# Known vulnerabilities in code that is called. Where the database cannot be reached it says so and passes, and for no
# other reason; GOVULNDB names another database. A small package shows that at once.
vulnerabilities() {
	local out db=()
	[ -z "${GOVULNDB:-}" ] || db=(-db "$GOVULNDB")
	out=$(go run "$govulncheck" "${db[@]}" ./internal/version 2>&1) || true
	if grep -qE 'fetching vulnerabilities: (Get|Head) "[^"]*": (dial tcp|proxyconnect tcp): ' <<<"$out"; then
		printf 'NOT CHECKED: the database of vulnerabilities cannot be reached from here:\n%s\n' "$out"
		return
	fi
	go run "$govulncheck" "${db[@]}" ./...
}

# The packages that have something to race: they start goroutines, guard data against those of others or run tests in
# parallel, and have tests. Packages of pure functions are instrumented too where these use them. What is below test/
# and examples/ is no product.
concurrent() {
	local dir
	grep -rlE --include='*.go' '^[[:space:]]*go (func\(|[[:alpha:]][[:alnum:]_.]*\()|\.Go\(|\.Parallel\(\)|"sync(/atomic)?"|"golang\.org/x/sync/' api cmd config internal webhook xds |
		xargs -n1 dirname | LC_ALL=C sort -u | while read -r dir; do
		compgen -G "$dir/*_test.go" >/dev/null && echo "./$dir"
	done
}
