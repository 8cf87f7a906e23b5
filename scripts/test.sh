#!/usr/bin/env bash
# Runs every test of the workspace against a real Kafka and schema registry.
# usage: test.sh [arguments of `cargo test`, such as a test's name]
# The services are started here and stopped on every way out; data is in a temporary folder.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"

WORK=
# Keeps the services' logs of a failed run; shows them only where a service is what failed.
keep_logs() {
  local file
  mkdir -p "$CACHE/logs"
  rm -f "$CACHE"/logs/*.log
  cp "$WORK"/*.log "$CACHE/logs/"
  for file in "$WORK"/*.pid; do
    if ! kill -0 "$(cat "$file")" 2>/dev/null; then
      tail -n 40 "${file%.pid}.log" >&2
      say "error: $(basename "$file" .pid) ended during the tests; the end of its log is above"
    fi
  done
  say "the logs of Kafka and the registry are in $CACHE/logs"
}

finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  end_supervised
  if [ -f "$WORK/env" ]; then
    # Above 128 a signal ended the run: nothing failed.
    if [ "$status" != 0 ] && [ "$status" -le 128 ]; then keep_logs; fi
    "$SCRIPTS/cluster.sh" stop "$WORK"
  elif [ -n "$WORK" ]; then
    rm -rf "$WORK"
  fi
  exit "$status"
}
trap finish EXIT
exit_on_signals

"$SCRIPTS/setup.sh" test
source "$SCRIPTS/build-env.sh"
fetch_services
fetch_python
fetch_clickhouse
fetch_prometheus
tests=(--release --workspace --features broker-tests --no-fail-fast)
# First the build, so that the services do not wait for it, and failures of either stand apart.
supervise cargo test "${tests[@]}" --no-run
WORK=$(mktemp -d "${TMPDIR:-/tmp}/kstreams-test.XXXXXX")
# Users of the listener that demands a login: one without rights, and one for each topology.
users=nobody,manager-assignment,contractor-access,hr-documents,notifications,notification-delivery,audit-fanout
supervise "$SCRIPTS/cluster.sh" start "$WORK" --users "$users" --owner $$
# shellcheck source=/dev/null
source "$WORK/env"
# Tests make their temporary folders here; they go with the cluster, even if this script is killed.
mkdir "$WORK/tmp"
export TMPDIR=$WORK/tmp
supervise cargo test "${tests[@]}" "$@"
