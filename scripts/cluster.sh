#!/usr/bin/env bash
# A throw-away Kafka (KRaft) with a schema registry on free loopback ports.
# usage: cluster.sh start DIR [--nodes 1|3] [--no-registry] [--owner PID]
#        cluster.sh stop DIR
# `start` wants a new or empty DIR, returns when all are ready, and writes DIR/env, to be sourced:
# KSTREAMS_TEST_BOOTSTRAP, KSTREAMS_TEST_REGISTRY and KSTREAMS_TEST_JAVA_CLASSPATH. Process ids are in DIR/*.pid, logs in
# DIR/*.log. With --owner the cluster stops by itself when that process is gone, SIGKILL included.
# `stop` kills the processes and removes DIR. KAFKA_HEAP sets the brokers' JVM heap options.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"

READY_SECONDS=120

usage() { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }

# A port on which nothing answers, below the range from which the system gives out its own.
free_port() {
  local port
  while :; do
    port=$((10000 + RANDOM % 20000))
    [[ " $taken " == *" $port "* ]] && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  taken+=" $port"
  FREE_PORT=$port
}

# Whether the process of a pid file runs and is ours: a process id may have been given to another.
alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$DIR"
}

# spawn NAME COMMAND...: in a session of its own, so that Ctrl-C reaches the tests before it.
spawn() {
  local name=$1
  shift
  setsid "$@" >"$DIR/$name.log" 2>&1 </dev/null &
  echo $! >"$DIR/$name.pid"
  # Otherwise this shell would announce its death.
  disown
}

# wait_ready NAME CHECK...: polls until CHECK succeeds; shows the log's end when it never does.
wait_ready() {
  local name=$1 deadline=$((SECONDS + READY_SECONDS))
  shift
  until "$@"; do
    if ! alive "$DIR/$name.pid" || [ "$SECONDS" -ge "$deadline" ]; then
      tail -n 40 "$DIR/$name.log" >&2
      say "error: $name did not get ready; the end of its log is above"
      return 1
    fi
    sleep 0.2
  done
}

kafka_ready() { grep -q 'Kafka Server started' "$DIR/kafka-$1.log"; }

registry_ready() {
  local status
  {
    exec 3<>"/dev/tcp/127.0.0.1/$registry_port" || return 1
    printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    read -r -t 5 status <&3 || status=
    exec 3>&-
  } 2>/dev/null
  [[ $status == *' 200 '* ]]
}

write_properties() {
  local node=$1 replicas=$((nodes == 3 ? 3 : 1)) in_sync=$((nodes == 3 ? 2 : 1))
  sed -e "s|@NODE@|$node|g" -e "s|@PORT@|${ports[node]}|g" \
    -e "s|@CONTROLLER_PORT@|${controller_ports[node]}|g" -e "s|@VOTERS@|$voters|g" \
    -e "s|@DATA@|$DIR/data-$node|g" -e "s|@REPLICAS@|$replicas|g" -e "s|@IN_SYNC@|$in_sync|g" \
    "$ROOT/tests/cluster/server.properties" >"$DIR/kafka-$node.properties"
}

start_kafka() {
  local node java voters='' bootstrap=''
  local -a ports controller_ports
  local -a jvm=(-Djava.awt.headless=true "-Dlog4j2.configurationFile=$ROOT/tests/cluster/log4j2.properties"
    -cp "$DIST/kafka/*")
  java=$(java_command)
  for node in $(seq "$nodes"); do
    free_port && ports[node]=$FREE_PORT
    free_port && controller_ports[node]=$FREE_PORT
    voters+=${voters:+,}$node@127.0.0.1:${controller_ports[node]}
    bootstrap+=${bootstrap:+,}127.0.0.1:${ports[node]}
  done
  for node in $(seq "$nodes"); do
    write_properties "$node"
    "$java" -Xmx128m -XX:TieredStopAtLevel=1 "${jvm[@]}" kafka.tools.StorageTool format \
      --cluster-id 4L6g3nShT-eMCtK--X86sw --config "$DIR/kafka-$node.properties" \
      >"$DIR/format-$node.log" 2>&1 || { tail -n 20 "$DIR/format-$node.log" >&2; return 1; }
    # shellcheck disable=SC2086  # the heap options are several words
    spawn "kafka-$node" "$java" $heap -XX:+UseG1GC "${jvm[@]}" kafka.Kafka "$DIR/kafka-$node.properties"
  done
  echo "export KSTREAMS_TEST_BOOTSTRAP=$bootstrap" >>"$DIR/env"
}

start_registry() {
  local folder=$DIST/registry
  free_port
  registry_port=$FREE_PORT
  spawn registry env QUARKUS_HTTP_HOST=127.0.0.1 "QUARKUS_HTTP_PORT=$registry_port" \
    "$(java_command)" -Xmx384m "-Dkstreams.cluster=$DIR" -jar "$folder"/*-runner.jar
  echo "export KSTREAMS_TEST_REGISTRY=http://127.0.0.1:$registry_port/apis/ccompat/v7" >>"$DIR/env"
}

start() {
  local node
  [ -z "$(ls -A "$DIR" 2>/dev/null)" ] || die "found files in \"$DIR\", wanted a new or empty folder"
  fetch_services
  mkdir -p "$DIR"
  printf 'export KSTREAMS_TEST_JAVA_CLASSPATH=%q\n' "$DIST/kafka/*" >"$DIR/env"
  if [ -n "$owner" ]; then
    # shellcheck disable=SC2016  # the inner shell expands its own arguments
    spawn watch bash -c 'tail --pid="$1" -f /dev/null; exec "$2" stop "$3"' \
      watch "$owner" "$SCRIPTS/cluster.sh" "$DIR"
  fi
  trap 'status=$?; [ $status = 0 ] || stop; exit $status' EXIT
  exit_on_signals
  [ "$registry" = no ] || start_registry
  start_kafka
  for node in $(seq "$nodes"); do wait_ready "kafka-$node" kafka_ready "$node"; done
  [ "$registry" = no ] || wait_ready registry registry_ready
}

# Whether the process of a pid file runs and is not this one: `watch` becomes `stop` in the end.
alive_other() { [ "$(cat "$1")" != $$ ] && alive "$1"; }

# Data is thrown away, so nothing is gained by an orderly shutdown: SIGKILL, then wait. Each process
# leads a group of its own, which goes with it.
stop() {
  local file
  [ -f "$DIR/env" ] || die "found no cluster in \"$DIR\"; it is made by \`cluster.sh start DIR\`"
  for file in "$DIR"/*.pid; do
    if alive_other "$file"; then kill -KILL -- "-$(cat "$file")" 2>/dev/null || :; fi
  done
  for file in "$DIR"/*.pid; do
    while alive_other "$file"; do sleep 0.05; done
  done
  rm -rf "$DIR"
}

[ $# -ge 2 ] || usage
command=$1 DIR=$(realpath -m "$2") nodes=1 registry=yes owner='' taken=''
shift 2
while [ $# -gt 0 ]; do
  case $1 in
    --nodes) nodes=${2:?} && shift ;;
    --no-registry) registry=no ;;
    --owner) owner=${2:?} && shift ;;
    *) usage ;;
  esac
  shift
done
[[ $nodes == [13] ]] || die "found --nodes \"$nodes\", wanted 1 or 3"
heap=${KAFKA_HEAP:--Xms256m -Xmx$((nodes == 3 ? 384 : 512))m}
case $command in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
