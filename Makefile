# The commands of this repository. The work is done by scripts/, which can be called directly too.
.DEFAULT_GOAL := help
.PHONY: help run test check bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Local mode in one process, no service needed. ARGS="--seconds 20", STORE=memory|rocksdb
	@STORE='$(or $(STORE),memory)' scripts/run.sh $(ARGS)

test: ## All tests on a real Kafka and registry, fetched and started here. ARGS="name of a test"
	@scripts/test.sh $(ARGS)

check: ## Format, lints, layers and tree rules. STORE=memory skips the code that needs RocksDB
	@STORE='$(or $(STORE),rocksdb)' scripts/check.sh

bench: ## Throughput on a real Kafka against a plain client. PEER=folder compares with Kafka Streams
	@scripts/bench.sh $(ARGS)
