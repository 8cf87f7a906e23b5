#!/usr/bin/env bash
# Measures, on a real Kafka, how state comes back; prints a JSON line for each run.
# usage: [RUNS=1] [RECORDS=2000000] [PARTITIONS=4] bench-state.sh restore
#   restores one changelog with this engine and with Kafka Streams, in turn; a store that does not hold what it should ends the bench
# usage: [RUNS=1] [KEYS=1000000] bench-state.sh recovery
#   kills one of two processes that count keys, without and with a standby, and takes the time until its partitions' results come again,
#   with the default session time-out of 10 s
# Everything is in a temporary folder and gone on every way out.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"

RUNS=${RUNS:-1} RECORDS=${RECORDS:-2000000} PARTITIONS=${PARTITIONS:-4} KEYS=${KEYS:-1000000}
WHAT=${1:-}
[[ $WHAT =~ ^(restore|recovery)$ ]] || die "found \"$WHAT\", wanted restore or recovery"
WORK=
finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  end_supervised
  [ ! -f "$WORK/cluster/env" ] || "$SCRIPTS/cluster.sh" stop "$WORK/cluster"
  [ -z "$WORK" ] || rm -rf "$WORK"
  exit "$status"
}
trap finish EXIT
exit_on_signals

restore() {
  local -a changelog=(--application bench-restore --records "$RECORDS" --partitions "$PARTITIONS")
  say 'filling the changelog'
  supervise "$WORKLOADS" restore-fill "${changelog[@]}" >&2
  for run in $(seq "$RUNS"); do
    supervise "$WORKLOADS" restore "${changelog[@]}"
    # As many stream threads as cores: each has a thread that restores. Kafka Streams prints its settings, too.
    supervise "$(java_command)" -Xmx1g "-Dlog4j2.configurationFile=$ROOT/tests/cluster/log4j2.properties" \
      -cp "$KSTREAMS_TEST_JAVA_CLASSPATH" "$ROOT/benches/workloads/java/Restore.java" "$KAFKA_BOOTSTRAP_SERVERS" \
      bench-restore "$RECORDS" "$PARTITIONS" "$WORK/java-$run" "$(nproc)" >"$WORK/java.log"
    grep '^{"engine"' "$WORK/java.log"
  done
}

recovery() {
  for run in $(seq "$RUNS"); do
    for standbys in 0 1; do
      supervise "$WORKLOADS" recovery --application "recovery-$run-$standbys" --keys "$KEYS" --standbys "$standbys"
    done
  done
}

"$SCRIPTS/setup.sh" test
source "$SCRIPTS/build-env.sh"
fetch_services
supervise cargo build --release --package workloads
WORKLOADS=$CARGO_TARGET_DIR/release/workloads
WORK=$(mktemp -d "${TMPDIR:-/tmp}/kstreams-state.XXXXXX")
supervise "$SCRIPTS/cluster.sh" start "$WORK/cluster" --no-registry --owner $$
# shellcheck source=/dev/null
source "$WORK/cluster/env"
export KAFKA_BOOTSTRAP_SERVERS=$KSTREAMS_TEST_BOOTSTRAP
BENCH_BROKER_PID=$(cat "$WORK/cluster/kafka-1.pid")
export BENCH_BROKER_PID
"$WHAT"
