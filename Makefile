# All tasks of the project. Each target sets up what it needs.

CARGO ?= cargo
DEMO := deploy/demo
SEEDS ?= 10000
CASES ?= 200000
SECONDS ?= 600
ONLY ?=
FIRST ?= 0
PEERS ?=
BIDDERS ?=
# For a release: the image registry, whether to push the images, and the tag.
REGISTRY ?= localhost
PUSH ?=
TAG ?=
DIST := target/dist

# `make` alone lists the targets.
.DEFAULT_GOAL := help

.PHONY: help demo check test bench cuda peers bidders simulate properties fuzz faults docs fmt lint deny licences onnxruntime jars tools minilm model \
	release-check release-archive release-images release-sbom release-sign

## help: list the targets
help:
	@sed -n 's/^## \([a-z-]*\): /  \1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

## demo: run the whole pipeline on real data, without a Kafka (built without TLS, which takes minutes; for a Kafka: cargo build --release)
demo: onnxruntime
	$(CARGO) run --release --quiet --no-default-features -- demo

## check: format, lints, unit tests and a small simulation, to run while you work
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --all-features --quiet -- --deny warnings
	SIMULATION_SEEDS=300 $(CARGO) test --all-features --quiet --lib --test tidy --test simulation -- --skip each_known_bug_is_found

## test: check format, lints and docs, and run every test, including those on a real Kafka
test: onnxruntime
	tests/run

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

## bidders: compare aimpoint serve with Redis on this machine, BIDDERS="options" (see benches/bidders/README.md)
bidders: jars tools
	$(CARGO) build --release --quiet --bin aimpoint
	$(CARGO) build --release --quiet --locked --manifest-path benches/bidders/tool/Cargo.toml --target-dir benches/bidders/tool/target
	benches/bidders/run $(BIDDERS)

## simulate: test the worker on a model broker with faults, SEEDS=n
simulate:
	SIMULATION_SEEDS=$(SEEDS) $(CARGO) test --release --test simulation -- --nocapture

## properties: compare features of random declarations and streams with a naive recount, CASES=n, FIRST=n
properties:
	PROPERTIES_CASES=$(CASES) PROPERTIES_FIRST=$(FIRST) $(CARGO) test --release --test properties -- --nocapture

## fuzz: give every decoder inputs made to reach new code, SECONDS=n for each, ONLY="names", KEEP=1 to add to the corpus
fuzz:
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tests/fuzz/instrument FUZZ_SECONDS=$(SECONDS) FUZZ_ONLY=$(ONLY) $(if $(KEEP),FUZZ_KEEP=1) \
		$(CARGO) test --all-features --test fuzz -- --nocapture

## faults: run the long test on a real Kafka: kills, pauses, restarts and cluster changes at 20,000 events per second
faults: onnxruntime jars
	FAULTS_KILLS=200 FAULTS_EVENTS=1000000 FAULTS_STORM_S=60 FAULTS_RESTARTS=3 FAULTS_RATE=20000 $(CARGO) test --release --features kafka-tests --test faults -- --nocapture

## docs: build the library pages
docs:
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --no-deps

## fmt: format the sources
fmt:
	$(CARGO) fmt

## lint: run the lints, and check the crates against deny.toml
lint: deny
	$(CARGO) clippy --all-targets --all-features -- --deny warnings

## deny: check licences, bans and sources of the crates, and advisories where they can be fetched
deny:
	@deploy/release/deny

## licences: regenerate the list of third-party software (deploy/licences)
licences:
	deploy/licences/third-party

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

## tools: fetch the pinned helm, kubeconform, promtool, prometheus, compose-go and OpenRTB classes into .tools/, for the tests
tools:
	@tests/deploy/tools

## minilm: fetch a pinned sentence model into .tools/minilm/, and texts with known subjects for its test
minilm:
	@deploy/minilm/fetch --texts

## release-check: whether everything agrees on the version, TAG=v1.2.3
release-check:
	@deploy/release/version $(TAG)

## release-archive: the program, ONNX Runtime and all licences as an archive in target/dist/
release-archive: onnxruntime
	deploy/release/build
	deploy/release/archive target/release/aimpoint $(DIST)

## release-images: both images, REGISTRY=ghcr.io/owner, PUSH=1
release-images:
	deploy/release/images $(REGISTRY) $(DIST) $(if $(PUSH),--push)

## release-sbom: what the program is made of, as CycloneDX in target/dist/
release-sbom:
	@deploy/release/tools cargo-cyclonedx
	mkdir -p $(DIST)
	.tools/cargo-cyclonedx cyclonedx --format json --spec-version 1.5 --override-filename aimpoint.cdx
	mv aimpoint.cdx.json $(DIST)/

## release-sign: sign what is in target/dist/, and the images that were pushed (cosign)
release-sign:
	deploy/release/sign $(DIST)
