# All commands of this project. ARGS is passed to the program: make demo ARGS='--for 10s'
.DEFAULT_GOAL := help
.PHONY: help demo test simulate conformance fuzz bench measure scale lint

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a fleet in one process, without a broker: watch hosts fill and drain (ARGS='--for 20s')
	@cargo run --quiet --release --locked -p novella-cli --bin novella -- demo $(ARGS)

test: ## run all tests: unit, system, two RabbitMQs, the executables, the compose file (ARGS: names of parts, such as rabbit-4.0)
	@scripts/run_tests.py $(ARGS)

# --workspace is needed: without it, third-party crates get fewer features and are built again.
simulate: ## simulate random histories of a whole fleet, one seed after another (SECONDS=600)
	@NOVELLA_SIM_SECONDS=$(or $(SECONDS),600) cargo test --quiet --locked --workspace --test system random_histories -- --nocapture

conformance: ## compare the answers of Nova 34 and novella to random requests (CASES=100000 SECONDS=0 SEED=34)
	@scripts/conformance.sh --release --cases $(or $(CASES),100000) --seconds $(or $(SECONDS),0) --seed $(or $(SEED),34)

fuzz: ## feed randomly changed messages to the decoder and a scheduler's map (SECONDS=600 SEED=1 EXECUTIONS=0)
	@NOVELLA_FUZZ_SECONDS=$(or $(SECONDS),600) NOVELLA_FUZZ_SEED=$(or $(SEED),1) NOVELLA_FUZZ_EXECUTIONS=$(or $(EXECUTIONS),0) \
		cargo test --quiet --profile fuzz --locked -p novella-tests --test fuzz -- --nocapture

bench: ## run the in-memory benchmarks: report path, placement, host map, envelope (ARGS: a filter)
	@cargo bench --workspace --locked --bench '*' -- $(ARGS)

measure: ## measure every number of docs/performance.md and compare it with its target, RabbitMQ included (ARGS: names of parts; WRITE_DOCS=1: draw docs/placement.svg)
	@scripts/measure.py $(if $(WRITE_DOCS),--write-docs) $(ARGS)

scale: ## measure a growing fleet on RabbitMQ and in a PostgreSQL table (SECONDS=60: a short run; PART=1s; WRITE_DOCS=1: write docs/scale.md)
	@scripts/scale.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PART),--part $(PART)) $(if $(WRITE_DOCS),--write-docs)

lint: ## check formatting, clippy and documentation, and that docs/architecture.* and docs/rpc.md are up to date; warnings are errors
	@scripts/architecture.py --check
	@scripts/rpc_reference.py --check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
