# Everything one does with this repository. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

# Servers and readers of the lab, outside the checkout: shared by checkouts, kept between runs.
export TIDEWATER_CACHE ?= $(HOME)/.cache/tidewater

# --workspace everywhere: with -p, features would differ and the C code of librdkafka be compiled once more.
# Failpoints let the scenarios kill the runtime between any two steps of a commit.
FEATURES := --features tidewater-runtime/failpoints
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test lint generate bench bench-operator soak lab lab-down cluster cluster-down setup setup-build setup-lab setup-cluster

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: ## Kafka to Parquet and Iceberg in one process; needs Rust and a C toolchain only
	cargo run --profile demo --no-default-features -p tidewater-runtime --bin tidewater -- demo

test: setup setup-cluster ## Every test, on real servers
	cargo build --workspace --lib --bins --tests $(FEATURES)
	@e2e/setup/counted.sh $(TARGET)/debug/lab run --cluster -- cargo test --workspace $(FEATURES)

lint: setup-build ## Format, clippy, and licences where cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(FEATURES) -- -D warnings
	cargo clippy -p tidewater-runtime --no-default-features -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo-deny is not installed: licences not checked"; fi

generate: ## Write the generated files: CRDs, reference pages and the objects the operator is known to make
	cargo run -p tidewater-crds -- generate
	UPDATE_SNAPSHOTS=1 cargo test --workspace $(FEATURES) --lib -- the_reference_page_is_the_table as_kept

bench: setup ## Measure throughput and CPU per record; ARGS="--records 1000000 --only iceberg-rest" for less
	cargo build --workspace --release --bin tidewater --bin lab --bin bench
	KAFKA_HEAP_OPTS="-Xms1g -Xmx1g" $(TARGET)/release/lab run -- $(TARGET)/release/bench $(ARGS)

bench-operator: setup setup-cluster ## Measure the operator's memory and writes with 500 resources
	cargo build --workspace --release --bin tidewater-operator --bin lab --bin bench
	$(TARGET)/release/lab run -- $(TARGET)/release/bench operator

soak: setup ## Kill, cut and rebalance for a long while, and count every record
	cargo build --workspace --lib --bins --tests $(FEATURES)
	$(TARGET)/debug/lab run -- cargo test --workspace $(FEATURES) --test scenarios soak_long -- --ignored --nocapture

lab: setup ## Start the servers in the background and print what to export
	@cargo build --quiet --workspace $(FEATURES) --bin lab
	@$(TARGET)/debug/lab up

lab-down: ## Stop them
	@$(TARGET)/debug/lab down

cluster: setup setup-cluster ## The servers and a Kubernetes cluster with the operator in the background; prints what to export
	@cargo build --quiet --workspace $(FEATURES)
	@$(TARGET)/debug/lab up --cluster

cluster-down: lab-down ## Stop them

setup: setup-build setup-lab ## Install what the lab needs

setup-build:
	@e2e/setup/machine.sh build

setup-lab:
	@e2e/setup/machine.sh
	@e2e/setup/install.sh >/dev/null

setup-cluster: # minutes, once: Kubernetes is compiled
	@e2e/setup/machine.sh cluster
	@e2e/setup/install.sh cluster >/dev/null
