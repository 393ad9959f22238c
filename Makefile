# `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

target := $(or $(CARGO_TARGET_DIR),target)
# `make demo DEMO=once` ends after the story instead of staying up.
DEMO ?=
# `make bench BENCH=quick` takes a minute or two instead of a quarter of an hour; `BENCH=authz` is about extauth instead of ratelimit,
# `BENCH=xds` about the controller.
BENCH ?=
# `make test RUN='--tests -- NAME'` runs what has NAME in its name.
RUN ?= --all-targets --no-fail-fast

.PHONY: help demo test bench chart conformance fmt deny clean-tools cargo

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: cargo ## The quickstart on a real Envoy, told in requests and a login; stays up until Ctrl-C (DEMO=once: ends)
	@deploy/dev/envoy.sh
	@deploy/dev/oidc.sh optional
	@echo '==> building the controller (release mode)' >&2
	@cargo build --release --locked --package controller
	@ENVOY=$(CURDIR)/.tools/envoy exec python3 deploy/dev/demo.py $(abspath $(target))/release/controller $(DEMO)

test: cargo ## Formatting, lints and all tests, with a real Envoy, Redis, API server, OpenID provider and browser
	@deploy/dev/envoy.sh
	@deploy/dev/redis.sh
	@deploy/dev/oidc.sh
	@deploy/dev/chromium.sh
	@deploy/dev/valkey.sh
	@deploy/dev/postgres.sh
	@deploy/dev/faketime.sh
	@deploy/dev/kube.sh
	@echo '==> formatting' >&2
	@cargo fmt --all --check
	@echo '==> lints' >&2
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@echo '==> tests' >&2
	@ENVOY=$(CURDIR)/.tools/envoy REDIS_SERVER=$(CURDIR)/.tools/redis-server VALKEY_SERVER=$(CURDIR)/.tools/valkey-server POSTGRES=$(CURDIR)/.tools/postgres OIDC_PROVIDER=$(CURDIR)/.tools/oidc-provider CHROMIUM=$(CURDIR)/.tools/chromium KUBEBUILDER_ASSETS=$(CURDIR)/.tools/kube cargo test --workspace --locked $(RUN)

bench: cargo ## What a decision costs beside floors: a table and a plot; wants two quiet cores (BENCH="authz quick": extauth's, shorter)
	@deploy/dev/redis.sh
	@$(if $(filter authz xds,$(BENCH)),deploy/dev/envoy.sh)
	@$(if $(filter xds,$(BENCH)),deploy/dev/kube.sh)
	@KUBEBUILDER_ASSETS=$(CURDIR)/.tools/kube ENVOY=$(CURDIR)/.tools/envoy REDIS_SERVER=$(CURDIR)/.tools/redis-server python3 loadtest/bench/$(or $(filter authz xds,$(BENCH)),table).py $(filter-out authz xds,$(BENCH))

chart: ## The Helm chart: lint, schema, and deploy/manifests/install.yaml against it
	@deploy/dev/helm.sh
	@deploy/chart/check.sh
	@deploy/manifests/generate.sh --check

conformance: ## The official Gateway API suite against the cluster of KUBECONFIG; writes deploy/conformance/reports
	@deploy/conformance/run.sh

fmt: ## Formats the code
	@cargo fmt --all

deny: cargo ## The dependencies: bans, licences, sources, and advisories where their database can be fetched
	@deploy/dev/deny.sh

clean-tools: ## Forgets the tools that were fetched
	@rm -rf .tools

cargo:
	@command -v cargo >/dev/null || { echo 'error: cargo is missing; install Rust (stable)' >&2; exit 1; }
