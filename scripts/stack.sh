#!/usr/bin/env bash
# Everything on this machine, without containers: three brokers, registry, two instances of the application, Prometheus with the alerts.
# usage: stack.sh start|stop [DIR]        without DIR in $KSTREAMS_CLUSTER, or else in a folder of the cache
# All listen on free ports of loopback, which are printed, and written to DIR/env for `aggregator` and the scripts below. Logs are in
# DIR/*.log and DIR/kafka/*.log. `stop` kills the processes and removes DIR: data is thrown away.
# AGGREGATOR names a program that is built already.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"
source "$SCRIPTS/processes.sh"

NAMES=(one two)

build() {
  if [ -n "${AGGREGATOR:-}" ]; then return; fi
  "$SCRIPTS/setup.sh" cluster
  source "$SCRIPTS/build-env.sh"
  supervise cargo build --release --locked --package aggregator --bin aggregator
  AGGREGATOR=$CARGO_TARGET_DIR/release/aggregator
}

write_env() {
  # shellcheck source=/dev/null
  source "$DIR/kafka/env"
  printf 'export %s=%q\n' AGGREGATOR "$AGGREGATOR" KAFKA_BOOTSTRAP_SERVERS "$KSTREAMS_TEST_BOOTSTRAP" \
    KAFKA_SCHEMA_REGISTRY_URL "$KSTREAMS_TEST_REGISTRY" KAFKA_HTTP_ADVERTISED "${addresses[0]}" \
    STACK_INSTANCES "${addresses[*]}" STACK_PROMETHEUS "$prometheus" >"$DIR/env"
}

# start_instance NAME ADDRESS: a static member, so that a quick restart moves nothing.
start_instance() {
  mkdir "$DIR/$1"
  # Flags, not variables: a process is known as ours by the folder in its command line.
  spawn "$1" "$AGGREGATOR" run --set "http.bind=$2" --set "http.advertised=$2" --set "kafka.state_dir=$DIR/$1" \
    --set "kafka.group_instance_id=$1" --set log.format=json
}

start_prometheus() {
  local targets
  targets=$(printf '"%s", ' "${addresses[@]}")
  sed "s|targets: .*|targets: [${targets%, }]|" "$ROOT/docker/prometheus/prometheus.yml" >"$DIR/prometheus.yml"
  cp "$ROOT/docker/prometheus/alerts.yml" "$DIR/"
  spawn prometheus "$KSTREAMS_TEST_PROMETHEUS/prometheus" "--config.file=$DIR/prometheus.yml" \
    "--storage.tsdb.path=$DIR/prometheus" "--web.listen-address=$prometheus"
}

show() {
  printf '\nbrokers     %s\nregistry    %s\n' "$KAFKA_BOOTSTRAP_SERVERS" "$KAFKA_SCHEMA_REGISTRY_URL"
  printf 'instance    http://%s/health/ready, /metrics, /tasks, /topology\n' "${addresses[@]}"
  printf 'Prometheus  http://%s/alerts\nlogs        %s/*.log\n\n' "$prometheus" "$DIR"
  # shellcheck disable=SC2016  # for the reader's shell
  printf 'source %q; "$AGGREGATOR" simulate --rate 50   # traffic\n' "$DIR/env"
  printf 'scripts/health_check.sh                  # is all well?\n'
  printf 'make cluster-stop                        # ends it, and removes its data\n'
}

start() {
  local i prometheus
  local -a addresses=()
  [ -z "$(ls -A "$DIR" 2>/dev/null)" ] ||
    die "found files in \"$DIR\", wanted a new or empty folder; where that is a cluster, \`make cluster-stop\` ends it"
  build
  fetch_prometheus
  mkdir -p "$DIR"
  : >"$DIR/env"
  trap 'status=$?; end_supervised; [ $status = 0 ] || stop; exit $status' EXIT
  exit_on_signals
  free_port && prometheus=127.0.0.1:$FREE_PORT
  for i in "${!NAMES[@]}"; do free_port && addresses[i]=127.0.0.1:$FREE_PORT; done
  start_prometheus
  supervise "$SCRIPTS/start_kafka_cluster.sh" "$DIR"
  write_env
  # shellcheck source=/dev/null
  source "$DIR/env"
  supervise "$SCRIPTS/create_topics.sh" "$DIR"
  for i in "${!NAMES[@]}"; do start_instance "${NAMES[i]}" "${addresses[i]}"; done
  for i in "${!NAMES[@]}"; do wait_ready "${NAMES[i]}" http_ok "${addresses[i]}" /health/ready; done
  wait_ready prometheus http_ok "$prometheus" /-/ready
  supervise "$SCRIPTS/health_check.sh" "$DIR"
  show
}

stop() {
  [ -f "$DIR/env" ] || die "found no cluster in \"$DIR\"; \`make cluster\` starts one"
  kill_all
  [ ! -f "$DIR/kafka/env" ] || "$SCRIPTS/cluster.sh" stop "$DIR/kafka"
  rm -rf "$DIR"
}

command=${1:-}
stack_folder "${2:-}"
case $command in
  start) start ;;
  stop) stop ;;
  *) sed -n '3s/^# //p' "$0" >&2 && exit 2 ;;
esac
