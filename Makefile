# Godwit. "make help" lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps build sign keys demo test test-vm lint generated unit system bench run image run-image clean
.NOTPARALLEL:

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
KEYS        := build/keys
ROLES       := router linecard bgp

# The version comes from version control; outside of it builds are "(devel)".
BUILDVCS := $(shell git rev-parse --verify -q HEAD >/dev/null 2>&1 && echo -buildvcs=true || echo -buildvcs=false)
# GoBGP is built with the patches of tools/patches; PATCHED= builds it as it is.
PATCHED  := -modfile=build/patched/go.mod
GOBUILD  := CGO_ENABLED=0 go build $(PATCHED) -trimpath -ldflags=-w $(BUILDVCS)

# Where "make run" keeps its sockets and state.
RUN_DIR   ?= build/run
STATE_DIR ?= build/state
CONFIG    ?= configs/minimal.yaml

say = @printf '\033[1m== %s\033[0m\n' "$(1)"

help: ## Show this help
	@printf 'Godwit, a virtual router. Targets (root is needed for tests, demo and run):\n\n'
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@printf '\nStart with: make demo\n'

deps: ## Install the Debian packages that are missing
	@tools/deps.sh

build: ## Build static binaries into bin/, with a development key, modules signed
	$(call say,build)
	@mkdir -p bin
	@tools/patched.sh build/patched >/dev/null
	@$(GOBUILD) -o bin/ ./cmd/...
	@$(GOBUILD) -buildvcs=false -o bin/gobgp github.com/osrg/gobgp/v4/cmd/gobgp
	@$(MAKE) --no-print-directory sign
	@ls -l bin | awk 'NR > 1 { printf "   bin/%-18s %6.1f MB\n", $$9, $$5 / 1e6 }'

# The development key is made once and never leaves build/. It is marked: only a
# trust store that allows development keys takes it.
keys: $(KEYS)/trust/dev.pem

$(KEYS)/trust/dev.pem:
	@install -d -m 700 $(KEYS)
	@rm -rf $(KEYS)/trust
	@rm -f $(KEYS)/dev.key $(KEYS)/dev.pem
	@bin/godwit-sign key generate --development $(KEYS)/dev >/dev/null
	@bin/godwit-sign key trust --allow-development --trust $(KEYS)/trust $(KEYS)/dev.pem >/dev/null
	@rm $(KEYS)/dev.pem
	@echo "   new development key $$(bin/godwit-sign key id $@ | cut -d' ' -f1): $(KEYS)/dev.key, trusted by $(KEYS)/trust"

sign: keys
	@for role in $(ROLES); do \
	  bin/godwit-sign sign --key $(KEYS)/dev.key --role $$role bin/godwit-$$role >/dev/null; \
	done
	@bin/godwit-sign verify --trust $(KEYS)/trust $(ROLES:%=bin/godwit-%) | sed 's/^/   /'

demo: deps build ## Two VRFs with the same addresses, real peers, failures: about 2 minutes
	@bin/lab demo

test: deps build lint generated unit system ## Everything: build, lint, generated code, unit and system tests
	$(call say,all tests passed)

lint: ## gofmt, go vet, staticcheck, layering and budgets
	$(call say,gofmt)
	@bad=$$(git ls-files -co --exclude-standard -- '*.go' | xargs -r ls -d 2>/dev/null | xargs -r gofmt -l); \
	if [ -n "$$bad" ]; then echo "not formatted (gofmt -w):"; echo "$$bad"; exit 1; fi
	$(call say,go vet)
	@go vet ./...
	$(call say,staticcheck)
	@go run $(STATICCHECK) ./...
	$(call say,layering and budgets)
	@go test -count=1 .

generated: ## Check that generated code is up to date
	$(call say,generated code)
	@tools/generated.sh

unit: ## Tests of all packages but the system tests, with the race detector
	$(call say,unit tests with the race detector)
	@go test -race -timeout 15m $$(go list ./... | grep -vE '^godwit/cmd/lab($$|/)')

system: ## System tests: whole routers in namespaces with BIRD, FRR and GoBGP peers
	$(call say,system tests)
	@go test -count=1 -timeout 30m ./cmd/lab/...

test-vm: ## Tests in guests: the kernel's TIPC and its enforcement of signatures (part of system)
	$(call say,tests in guests)
	@go test -count=1 -timeout 15m -v ./cmd/lab/vm ./cmd/lab/secure

bench: ## Benchmarks with their baselines, JSON lines: make bench NAME=fib
	@$(MAKE) --no-print-directory deps build >&2
	@bin/bench $(NAME)

run: deps build ## Run a router here with CONFIG (default configs/minimal.yaml) until Ctrl-C
	@mkdir -p $(RUN_DIR) $(STATE_DIR)
	@echo "CLI: bin/godwit --run-dir $(abspath $(RUN_DIR)) show modules"
	@exec bin/godwitd --run-dir $(abspath $(RUN_DIR)) --state-dir $(abspath $(STATE_DIR)) \
	  --trust $(abspath $(KEYS)/trust) --config $(abspath $(CONFIG))

image: deps build ## Kernel and initramfs that boot in QEMU, into build/image/
	@bin/mkimage build

run-image: image ## Boot the image in QEMU, console on the CLI
	@bin/mkimage run

clean: ## Remove what was built (the development key too)
	@rm -rf bin build
