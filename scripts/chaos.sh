#!/usr/bin/env bash
# Four processes in one group under load, while processes, three brokers, the registry and the network fail in turn.
# usage: chaos.sh [--short] [--seconds N] [--rate EVENTS_PER_SECOND] [--protocols classic,consumer,streams]
# Afterwards an independent reader counts what came out. Services and data are in a temporary folder, gone on every way out.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"

while [ $# -gt 0 ]; do
  case $1 in
    --short) export KSTREAMS_CHAOS_SHORT=1 ;;
    --seconds) export KSTREAMS_CHAOS_SECONDS=${2:?} && shift ;;
    --rate) export KSTREAMS_CHAOS_RATE=${2:?} && shift ;;
    --protocols) export KSTREAMS_CHAOS_PROTOCOLS=${2:?} && shift ;;
    *) sed -n '3s/^# //p' "$0" >&2 && exit 2 ;;
  esac
  shift
done
WORK=
finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  end_supervised
  [ ! -f "$WORK/env" ] || "$SCRIPTS/cluster.sh" stop "$WORK"
  exit "$status"
}
trap finish EXIT
exit_on_signals

"$SCRIPTS/setup.sh" test
source "$SCRIPTS/build-env.sh"
fetch_services
tests=(--release --workspace --features broker-tests --test chaos)
supervise cargo test "${tests[@]}" --no-run
WORK=$(mktemp -d "${TMPDIR:-/tmp}/kstreams-chaos.XXXXXX")
KAFKA_HEAP='-Xms192m -Xmx384m' supervise "$SCRIPTS/cluster.sh" start "$WORK" --nodes 3 --proxied --owner $$
# shellcheck source=/dev/null
source "$WORK/env"
mkdir "$WORK/tmp"
export TMPDIR=$WORK/tmp
supervise cargo test "${tests[@]}" -- --nocapture
