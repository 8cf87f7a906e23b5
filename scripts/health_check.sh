#!/usr/bin/env bash
# Says of every part of a cluster whether it is well; ends with status 1 where one is not.
# usage: health_check.sh [DIR]        the cluster of stack.sh
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/processes.sh"

failures=0
# check WHAT COMMAND...: one line; the end of what the command has said where it fails.
check() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'ok    %s\n' "$what"
  else
    printf 'FAIL  %s%s\n' "$what" "${output:+: $(tail -n 3 <<<"$output" | tr '\n' ' ')}"
    failures=$((failures + 1))
  fi
}

answers() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

running_stack "${1:-}"
for address in ${KAFKA_BOOTSTRAP_SERVERS//,/ }; do check "broker $address" answers "$address"; done
check 'topics are as specified' "$AGGREGATOR" topics diff
check 'contracts are registered and compatible' "$AGGREGATOR" schemas check --registry
for address in $STACK_INSTANCES; do check "instance $address is ready" http_ok "$address" /health/ready; done
check "Prometheus $STACK_PROMETHEUS" http_ok "$STACK_PROMETHEUS" /-/ready
[ "$failures" = 0 ] || die "$failures parts are not well; logs are in $DIR/*.log and $DIR/kafka/*.log"
