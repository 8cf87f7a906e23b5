#!/bin/bash
# What must exist before the application starts: topics, contracts, and ClickHouse's tables where there is one. Run once, by a job;
# again does no harm. Settings come from the environment, as the application's do.
set -euo pipefail

aggregator topics apply
aggregator schemas push
[ -z "${KAFKA_CLICKHOUSE_URL:-}" ] || aggregator clickhouse apply
