#!/usr/bin/env bash
# Starts three brokers and a schema registry, in the folder `kafka` of a cluster's; returns when they are ready.
# usage: start_kafka_cluster.sh [DIR]        as with stack.sh, which does this and the rest
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/processes.sh"

stack_folder "${1:-}"
exec "$SCRIPTS/cluster.sh" start "$DIR/kafka" --nodes 3
