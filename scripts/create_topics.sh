#!/usr/bin/env bash
# Creates the topics that are missing and registers the contracts; says what it did. Nothing is deleted or shrunk.
# usage: create_topics.sh [DIR]        the cluster of stack.sh. For another one: aggregator topics apply, aggregator schemas push
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/processes.sh"

running_stack "${1:-}"
"$AGGREGATOR" topics apply
"$AGGREGATOR" schemas push
