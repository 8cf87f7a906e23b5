#!/usr/bin/env bash
# Builds and starts the local mode: broker, registry, simulator and topology in one process.
# usage: [STORE=memory|rocksdb] run.sh [arguments of `aggregator dev`]
source "$(dirname "$0")/common.sh"

STORE=${STORE:-memory}
case $STORE in
  memory)
    "$SCRIPTS/setup.sh" run
    features=(--no-default-features)
    ;;
  rocksdb)
    "$SCRIPTS/setup.sh" rocksdb
    source "$SCRIPTS/build-env.sh"
    features=()
    ;;
  *) die "found STORE=\"$STORE\", wanted memory or rocksdb" ;;
esac
exec cargo run --release --package aggregator "${features[@]}" -- dev "$@"
