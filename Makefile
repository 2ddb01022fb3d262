# `make help` lists the targets. Only git, make, go and gcc have to be there;
# the targets install or build what else they need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Put into binaries and image labels.
VERSION ?= dev
export VERSION

CLUSTER := .build/tools/cluster
# Programs for people and tests, at stable paths: kubectl, helm, envoy, ctr.
TOOLS := $(CURDIR)/.build/tools

##@ Help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The two commands

.PHONY: demo
demo: $(CLUSTER) ## Show the story on a cluster: the embedded one, or that of KUBECONFIG
	@if [ -z "$${KUBECONFIG:-}" ]; then $(CLUSTER) up && $(CLUSTER) bin && $(CLUSTER) images --load; else $(CLUSTER) tools; fi
	@PATH=$(TOOLS):$$PATH go run ./test/demo

.PHONY: test
test: $(CLUSTER) ## Run everything that must pass; the end-to-end tests use the same cluster
	@hack/test.sh

.PHONY: e2e
e2e: $(CLUSTER) ## Run chosen end-to-end tests: RUN=Story, RUN='Canary|Crash' (LIST=1: only print which)
	@RUN='$(RUN)' LIST='$(LIST)' hack/e2e.sh

.PHONY: conformance
conformance: $(CLUSTER) ## Run the Gateway API's conformance suite alone (ARGS="-run-test MeshPorts" for one test)
	@if [ -z "$${KUBECONFIG:-}" ]; then $(MAKE) cluster-up load && $(CLUSTER) conformance; fi
	MIZZEN_CONFORMANCE=1 go test -count=1 -timeout 60m -parallel 4 -v ./test/conformance $(ARGS)

.PHONY: bench
bench: ## Measure: control plane (on a cluster), sidecar memory, data path (some 20 minutes; see docs/performance.md)
	@if [ -z "$${KUBECONFIG:-}" ]; then $(MAKE) cluster-up load; fi
	@command -v h2load >/dev/null || { apt-get update -q && apt-get install -y --no-install-recommends nghttp2-client; }
	go run ./test/bench/controlplane
	go run ./test/bench/memory
	go run ./test/bench/datapath

SEED ?=
DURATION ?= 30m

.PHONY: soak
soak: ## Do harm to a mesh under load, and check what must hold: SEED=7 DURATION=30m (docs/reliability.md)
	@if [ -z "$${KUBECONFIG:-}" ]; then $(MAKE) cluster-up load; fi
	go run ./test/chaos $(if $(SEED),-seed $(SEED)) -duration $(DURATION) $(ARGS)

##@ Development

.PHONY: check
check: ## Run what a change should pass first: format, vet, lint, generated files, vulnerabilities, unit tests (3 minutes)
	@hack/check.sh

.PHONY: lint
lint: ## Run golangci-lint (builds it first, some minutes once)
	@hack/check.sh linted

.PHONY: generate
generate: ## Write what is generated: the CRDs in the chart, deep copies, docs/reference.md, docs/metrics.md
	go generate ./api/... ./config ./cmd/... ./internal/agent

.PHONY: bin
bin: $(CLUSTER) ## Build the binaries into .build/bin
	@$(CLUSTER) bin

.PHONY: images
images: bin ## Build the images from them, as archives in .build/images (ONLY="proxy controller" for some)
	@$(CLUSTER) images $(ONLY)

##@ Embedded cluster

.PHONY: tools
tools: $(CLUSTER) ## Build and fetch what the cluster is made of (20 minutes once on two cores, then cached)
	@$(CLUSTER) tools

.PHONY: cluster-up
cluster-up: $(CLUSTER) ## Start a Kubernetes cluster of this checkout's own
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(CLUSTER) ## Stop it and remove all it left on the machine
	@$(CLUSTER) down

.PHONY: cluster-status
cluster-status: $(CLUSTER) ## Show its components
	@$(CLUSTER) status

.PHONY: kubeconfig
kubeconfig: $(CLUSTER) ## Print the line for your shell: eval "$(make kubeconfig)"
	@echo "export KUBECONFIG=$$($(CLUSTER) kubeconfig) PATH=$(TOOLS):\$$PATH"

.PHONY: load
load: bin ## Build the images and load them into the cluster (ONLY="proxy controller" for some)
	@$(CLUSTER) images --load $(ONLY)

##@ Releases

RELEASE := go run -C hack -trimpath -buildvcs=false ./cmd/release

.PHONY: release
release: ## Build a release into .build/release: make release VERSION=v0.1.0 (docs/release.md)
	@$(RELEASE)

.PHONY: release-check
release-check: ## The same, twice, the second time from another path and without Go's build cache, and compare all bytes
	@$(RELEASE) -check fresh

##@ Other

.PHONY: clean
clean: ## Stop the cluster and remove everything built in this checkout
	@if [ -e .cluster ]; then $(MAKE) cluster-down; fi
	rm -rf .build

# Go decides itself whether there is anything to do.
.PHONY: $(CLUSTER)
$(CLUSTER):
	@mkdir -p $(@D)
	@go build -C hack -trimpath -buildvcs=false -o $(CURDIR)/$@ ./cmd/cluster
