#!/usr/bin/env bash
# Measures the workloads of benches/workloads on a real Kafka and prints a table of medians.
# usage: [RUNS=3] [STORE=rocksdb|memory] [PEER=folder] bench.sh [--tracing [WORKLOAD...]]
# --tracing measures what traces at 1 % cost instead: RUNS pairs of runs without and with them, by CPU time.
# PEER is the folder of a Kafka Streams program for the same input; it is copied, built with Maven and
# run in turn with ours. Every run's output is checked; a wrong one ends the bench. Services and data are
# in a temporary folder and gone on every way out. The raw results are kept in the cache.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"

RUNS=${RUNS:-3} STORE=${STORE:-rocksdb} MODE=
[ $# = 0 ] || { MODE=$1 && shift; }
[[ $MODE == @(|--tracing) ]] || die "found \"$MODE\", wanted nothing or --tracing"
[[ $RUNS =~ ^[1-9][0-9]*$ ]] || die "found RUNS=\"$RUNS\", wanted a number from 1"
features=()
case $STORE in
  rocksdb) ;;
  memory) features=(--no-default-features) ;;
  *) die "found STORE=\"$STORE\", wanted rocksdb or memory" ;;
esac
PEER=${PEER:+$(realpath "$PEER")}
[ -z "$PEER" ] || [ -f "$PEER/pom.xml" ] || die "found no pom.xml in PEER=\"$PEER\", wanted a Maven project"

mkdir -p "$CACHE/logs"
RESULTS=$CACHE/logs/bench.jsonl
WORK='' COLLECTOR_PID=''
finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  end_supervised
  [ -z "$COLLECTOR_PID" ] || kill "$COLLECTOR_PID" 2>/dev/null || :
  if [ "$status" != 0 ] && compgen -G "$WORK/cluster/kafka-*.log" >/dev/null; then
    cp "$WORK/cluster/kafka-1.log" "$CACHE/logs/bench-kafka-1.log"
    say "the log of Kafka and the results so far are in $CACHE/logs"
  fi
  [ ! -f "$WORK/cluster/env" ] || "$SCRIPTS/cluster.sh" stop "$WORK/cluster"
  [ -z "$WORK" ] || rm -rf "$WORK"
  exit "$status"
}
trap finish EXIT
exit_on_signals

# The peer's scripts write next to themselves, so they run in a copy.
build_peer() {
  cp -r "$PEER" "$WORK/peer"
  mkdir -p "$WORK/peer/data" "$WORK/peer/tmp"
  supervise mvn --batch-mode --quiet --file "$WORK/peer/pom.xml" package
  # The input is filled by our generator, which equals the peer's byte for byte.
  printf 'requests=2000000\nworkflow=1000000\nsecurity=145000\n' >"$WORK/peer/data/bench.manifest"
}

# measure COMMAND...: keeps the one JSON line the command prints.
measure() {
  supervise "$@" >"$WORK/line"
  tee -a "$RESULTS" <"$WORK/line" >&2
}

# ours WORKLOAD GUARANTEE: one run of our program, checked, its topics deleted.
ours() {
  local id="bench-$1-$2-$((++cell))"
  local -a command=(run "$1")
  [ "$1" != passthrough ] || command=(passthrough)
  measure "$WORKLOADS" "${command[@]}" "$2" --output "$id"
  # manager-assignment checks itself: it needs the application's serdes for that.
  [ "$1" = manager-assignment ] ||
    supervise "$WORKLOADS" verify "$1" --output "$id" --group "$id" --delete >/dev/null
}

# tracing WORKLOAD...: pairs without and with traces, the second of a pair first in every other one.
tracing() {
  local run workload on
  "$WORKLOADS" collect >"$WORK/collector" &
  COLLECTOR_PID=$!
  until [ -s "$WORK/collector" ]; do sleep 0.1; done
  for workload in "$@"; do
    for run in $(seq "$RUNS"); do
      for on in $((run % 2)) $(((run + 1) % 2)); do
        local id="bench-$workload-$((++cell))"
        local -a command=(run "$workload" eos --output "$id")
        [ "$on" = 0 ] || command+=(--collector "$(cat "$WORK/collector")")
        measure "$WORKLOADS" "${command[@]}"
        [ "$workload" = manager-assignment ] ||
          supervise "$WORKLOADS" verify "$workload" --output "$id" --group "$id" --delete >/dev/null
      done
    done
  done
  supervise "$WORKLOADS" overhead "$RESULTS"
}

# The peer prints its output's checksum but compares it with nothing.
declare -A CHECKSUMS=([w1]=f40a5ae80e12b [w2]=7a1a943361357)
theirs() {
  measure "$WORK/peer/run.sh" "$1" "$2" 1
  grep -q "\"out_checksum\":\"${CHECKSUMS[$1]}\"" "$WORK/line" ||
    die "the peer's $1 $2 wanted checksum ${CHECKSUMS[$1]}; its line is above"
}

"$SCRIPTS/setup.sh" test
source "$SCRIPTS/build-env.sh"
fetch_services
supervise cargo build --release --package workloads "${features[@]}"
WORKLOADS=$CARGO_TARGET_DIR/release/workloads
WORK=$(mktemp -d "${TMPDIR:-/tmp}/kstreams-bench.XXXXXX")
[ -z "$PEER" ] || build_peer
supervise "$SCRIPTS/cluster.sh" start "$WORK/cluster" --no-registry --owner $$
# shellcheck source=/dev/null
source "$WORK/cluster/env"
export KAFKA_BOOTSTRAP_SERVERS=$KSTREAMS_TEST_BOOTSTRAP PEER_BOOTSTRAP=$KSTREAMS_TEST_BOOTSTRAP
BENCH_BROKER_PID=$(cat "$WORK/cluster/kafka-1.pid")
export BENCH_BROKER_PID PEER_BROKER_PID=$BENCH_BROKER_PID PEER_CFG=tuned
PEER_JAVA=$(java_command)
export PEER_JAVA

say 'filling the input topics'
supervise "$WORKLOADS" generate >&2
: >"$RESULTS"
cell=0
if [ "$MODE" = --tracing ]; then
  [ $# != 0 ] || set -- w1 manager-assignment
  tracing "$@"
  exit
fi
# Interleaved, so that a slow drift of the machine hits all alike.
for _ in $(seq "$RUNS"); do
  for guarantee in eos alo; do
    ours passthrough "$guarantee"
    ours w1 "$guarantee"
    ours w2 "$guarantee"
    ours manager-assignment "$guarantee"
    if [ -n "$PEER" ]; then
      theirs w1 "$guarantee"
      theirs w2 "$guarantee"
    fi
  done
done
supervise "$WORKLOADS" table "$RESULTS"
