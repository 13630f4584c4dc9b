# Everything you do with the project. Each target does its own set-up.

CARGO ?= cargo
DEMO := deploy/demo
SEEDS ?= 10000
CASES ?= 200000
FIRST ?= 0
PEERS ?=

# `make` alone lists the targets.
.DEFAULT_GOAL := help

.PHONY: help demo test bench cuda peers simulate properties faults docs fmt lint onnxruntime jars tools model

## help: list the targets
help:
	@sed -n 's/^## \([a-z-]*\): /  \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

## demo: run the whole pipeline on real data, without a Kafka
demo: onnxruntime
	$(CARGO) run --release --quiet -- demo

## test: check format, lints and docs, and run every test, including those on a real Kafka
test: onnxruntime jars tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --all-features --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --no-deps --quiet
	$(CARGO) test --all-features --quiet --no-fail-fast

## bench: run every benchmark; each prints a summary line with name, figure and unit
bench: onnxruntime
	$(CARGO) bench --quiet

## cuda: compare a model's scores and speed on a GPU with the CPU (ORT_DYLIB_PATH: an ONNX Runtime built for CUDA)
cuda: onnxruntime
	$(CARGO) bench --quiet --bench inference -- --provider cuda

## peers: compare Aimpoint with Kafka Streams and Flink on this machine, PEERS="options" (see benches/peers/README.md)
peers: onnxruntime jars
	$(CARGO) build --release --quiet --bin aimpoint --example peers
	mvn -q -B -f benches/peers/java/pom.xml package
	benches/peers/run $(PEERS)

## simulate: test the worker on a model broker with faults, SEEDS=n
simulate:
	SIMULATION_SEEDS=$(SEEDS) $(CARGO) test --release --test simulation -- --nocapture

## properties: compare features of random declarations and streams with a naive recount, CASES=n, FIRST=n
properties:
	PROPERTIES_CASES=$(CASES) PROPERTIES_FIRST=$(FIRST) $(CARGO) test --release --test properties -- --nocapture

## faults: run the long test on a real Kafka: kills, pauses, restarts and cluster changes at 20,000 events per second
faults: onnxruntime jars
	FAULTS_KILLS=200 FAULTS_EVENTS=1000000 FAULTS_STORM_S=60 FAULTS_RESTARTS=3 FAULTS_RATE=20000 $(CARGO) test --release --features kafka-tests --test faults -- --nocapture

## docs: build the library pages
docs:
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --no-deps

## fmt: format the sources
fmt:
	$(CARGO) fmt

## lint: run the lints only
lint:
	$(CARGO) clippy --all-targets --all-features -- --deny warnings

## model: rebuild the demo's model from its data
model: onnxruntime
	mkdir -p .work
	$(CARGO) run --release --quiet -- export --config $(DEMO)/aimpoint.toml $(DEMO)/cdnow.jsonl.gz \
		--until 1998-01-01T00:00:00Z --out .work/cdnow.parquet --out .work/cdnow.csv
	$(CARGO) run --release --quiet -- train .work/cdnow.parquet --out $(DEMO)/model.onnx \
		--name cdnow-repurchase --version 1 --members 1 --seed 7

## onnxruntime: download the pinned ONNX Runtime into .onnxruntime/
onnxruntime:
	@deploy/onnxruntime/fetch

## jars: download the pinned Kafka into .kafka/, for the tests
jars:
	@tests/kafka/broker/kafka jars

## tools: build the pinned helm, kubeconform, promtool, prometheus and compose-go into .tools/, for the tests
tools:
	@tests/deploy/tools
