#!/usr/bin/env bash
# Restores one changelog with this engine and with Kafka Streams, in turn, on a real Kafka, and prints a JSON line for each run.
# usage: [RUNS=1] [RECORDS=2000000] [PARTITIONS=4] bench-restore.sh
# Everything is in a temporary folder and gone on every way out. A store that does not hold what it should ends the bench.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"

RUNS=${RUNS:-1} RECORDS=${RECORDS:-2000000} PARTITIONS=${PARTITIONS:-4}
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

"$SCRIPTS/setup.sh" test
source "$SCRIPTS/build-env.sh"
fetch_services
supervise cargo build --release --package workloads
WORKLOADS=$CARGO_TARGET_DIR/release/workloads
WORK=$(mktemp -d "${TMPDIR:-/tmp}/kstreams-restore.XXXXXX")
supervise "$SCRIPTS/cluster.sh" start "$WORK/cluster" --no-registry --owner $$
# shellcheck source=/dev/null
source "$WORK/cluster/env"
export KAFKA_BOOTSTRAP_SERVERS=$KSTREAMS_TEST_BOOTSTRAP
BENCH_BROKER_PID=$(cat "$WORK/cluster/kafka-1.pid")
export BENCH_BROKER_PID

changelog=(--application bench-restore --records "$RECORDS" --partitions "$PARTITIONS")
say 'filling the changelog'
supervise "$WORKLOADS" restore-fill "${changelog[@]}" >&2
for run in $(seq "$RUNS"); do
  supervise "$WORKLOADS" restore "${changelog[@]}"
  # As many stream threads as cores: each has a thread that restores.
  supervise "$(java_command)" -Xmx1g "-Dlog4j2.configurationFile=$ROOT/tests/cluster/log4j2.properties" \
    -cp "$KSTREAMS_TEST_JAVA_CLASSPATH" "$ROOT/benches/workloads/java/Restore.java" \
    "$KAFKA_BOOTSTRAP_SERVERS" bench-restore "$RECORDS" "$PARTITIONS" "$WORK/java-$run" "$(nproc)"
done
