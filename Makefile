# Every command of this project. ARGS goes to the program: make demo ARGS='--for 10s'
.DEFAULT_GOAL := help
.PHONY: help demo test simulate conformance fuzz bench measure scale lint

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a fleet in one process, no broker: hosts fill and drain before your eyes (ARGS='--for 20s')
	@cargo run --quiet --release --locked -p novella-cli --bin novella -- demo $(ARGS)

test: ## everything: unit, system, two RabbitMQs, the executables, the compose file (ARGS: names of parts, such as rabbit-4.0)
	@scripts/run_tests.py $(ARGS)

# The whole workspace is named, as third-party crates have fewer features without it and would be built again.
simulate: ## random histories of a whole fleet, seed after seed (SECONDS=600)
	@NOVELLA_SIM_SECONDS=$(or $(SECONDS),600) cargo test --quiet --locked --workspace --test system random_histories -- --nocapture

conformance: ## random requests answered by Nova 34 itself and by novella, compared (CASES=100000 SECONDS=0 SEED=34)
	@scripts/conformance.sh --release --cases $(or $(CASES),100000) --seconds $(or $(SECONDS),0) --seed $(or $(SEED),34)

fuzz: ## recorded messages, changed at random, into the decoder and a scheduler's map (SECONDS=600 SEED=1 EXECUTIONS=0)
	@NOVELLA_FUZZ_SECONDS=$(or $(SECONDS),600) NOVELLA_FUZZ_SEED=$(or $(SEED),1) NOVELLA_FUZZ_EXECUTIONS=$(or $(EXECUTIONS),0) \
		cargo test --quiet --profile fuzz --locked -p novella-tests --test fuzz -- --nocapture

bench: ## the benchmarks in memory: report path, placement, host map, envelope (ARGS: a filter)
	@cargo bench --workspace --locked --bench '*' -- $(ARGS)

measure: ## every number of docs/performance.md beside its target, RabbitMQ included (ARGS: names of parts; WRITE_DOCS=1: draw docs/placement.svg)
	@scripts/measure.py $(if $(WRITE_DOCS),--write-docs) $(ARGS)

scale: ## a growing fleet on a real RabbitMQ, and in a PostgreSQL table (SECONDS=60: a short run; PART=1s; WRITE_DOCS=1: write docs/scale.md)
	@scripts/scale.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PART),--part $(PART)) $(if $(WRITE_DOCS),--write-docs)

lint: ## formatting, clippy and documentation, warnings refused; and whether docs/architecture.* and docs/rpc.md are up to date
	@scripts/architecture.py --check
	@scripts/rpc_reference.py --check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
