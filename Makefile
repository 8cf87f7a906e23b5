# The commands of this repository. The work is done by scripts/, which can be called directly too.
.DEFAULT_GOAL := help
.PHONY: help run cluster cluster-stop test check bench chaos

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Local mode in one process, no service needed. ARGS="--seconds 20", STORE=memory|rocksdb
	@STORE='$(or $(STORE),memory)' scripts/run.sh $(ARGS)

cluster: ## Three brokers, registry, two instances and Prometheus on this machine, without containers; prints their addresses
	@scripts/stack.sh start

cluster-stop: ## Ends what `make cluster` has started, and removes its data
	@scripts/stack.sh stop

test: ## All tests on a real Kafka and registry, fetched and started here. ARGS="name of a test"
	@scripts/test.sh $(ARGS)

check: ## Format, lints, layers and tree rules. STORE=memory skips the code that needs RocksDB
	@STORE='$(or $(STORE),rocksdb)' scripts/check.sh

bench: ## Throughput on a real Kafka against a plain client. PEER=folder compares with Kafka Streams
	@scripts/bench.sh $(ARGS)

chaos: ## Ten minutes of failures: processes, brokers, registry, network. ARGS="--seconds 60 --rate 500"
	@scripts/chaos.sh $(ARGS)
