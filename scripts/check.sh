#!/usr/bin/env bash
# What a machine can say about the code without running it: format, lints, layers, tree rules.
# usage: [STORE=memory|rocksdb] check.sh
# Uses the release profile, as everything here does, so that C and C++ are compiled only once.
source "$(dirname "$0")/common.sh"

STORE=${STORE:-rocksdb}
case $STORE in
  memory)
    "$SCRIPTS/setup.sh" run
    features=(--no-default-features)
    ;;
  rocksdb)
    "$SCRIPTS/setup.sh" rocksdb
    source "$SCRIPTS/build-env.sh"
    features=(--features broker-tests)
    ;;
  *) die "found STORE=\"$STORE\", wanted memory or rocksdb" ;;
esac
# optional COMMAND...: tools that a developer may have; absence is said, not an error.
optional() {
  if command -v "$1" >/dev/null; then "$@"; else say "skipped: $1 is not installed"; fi
}

cargo fmt --all --check
optional shellcheck scripts/*.sh .ci/run
cargo clippy --release --workspace --all-targets "${features[@]}" -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps "${features[@]}"
optional cargo-deny check
cargo test --release --package kstreams "${features[@]}" --test tidy
