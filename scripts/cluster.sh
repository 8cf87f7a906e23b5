#!/usr/bin/env bash
# A throw-away Kafka (KRaft) with a schema registry on free loopback ports.
# usage: cluster.sh start DIR [--nodes 1|3] [--no-registry] [--users NAME,…] [--proxied] [--owner PID]
#        cluster.sh stop DIR
#        cluster.sh kill|revive DIR kafka-1|kafka-2|kafka-3|registry
# `start` wants a new or empty DIR, returns when all are ready, and writes DIR/env, to be sourced:
# KSTREAMS_TEST_BOOTSTRAP, KSTREAMS_TEST_REGISTRY and KSTREAMS_TEST_JAVA_CLASSPATH. Process ids are in DIR/*.pid, logs in
# DIR/*.log. With --owner the cluster stops by itself when that process is gone, SIGKILL included.
# With --users there is a second listener, KSTREAMS_TEST_SECURE_BOOTSTRAP, which demands TLS (certificates in KSTREAMS_TEST_TLS)
# and SASL: each of them has the password NAME-secret, and no rights until ACLs give it some. The first listener may do everything.
# With --proxied each broker has a listener that it advertises under another port, where a test may put a proxy:
# KSTREAMS_TEST_PROXIED has both, as "listens:advertised", of each broker.
# `kill` kills one process, `revive` starts it again on its data (the registry has none) and returns when it is ready.
# `stop` kills the processes and removes DIR. KAFKA_HEAP sets the brokers' JVM heap options.
source "$(dirname "$0")/common.sh"
source "$SCRIPTS/fetch.sh"
source "$SCRIPTS/processes.sh"

usage() { sed -n '3,5s/^# //p' "$0" >&2; exit 2; }

kafka_ready() { grep -q 'Kafka Server started' "$DIR/kafka-$1.log"; }

registry_ready() {
  local address
  address=$(sed -n 's|^export KSTREAMS_TEST_REGISTRY=http://\([^/]*\)/.*|\1|p' "$DIR/env")
  http_ok "$address" /apis/ccompat/v7/subjects
}

# An authority in tls/ca.pem, a certificate for this machine in tls/server.pem (its key in server.key), and another authority,
# which has signed nothing, in tls/other-ca.pem.
make_certificates() {
  local folder=$DIR/tls name
  mkdir "$folder"
  for name in ca other-ca; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=Test $name" \
      -keyout "$folder/$name.key" -out "$folder/$name.pem"
  done
  openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$folder/server.key" -out "$folder/server.csr"
  openssl x509 -req -in "$folder/server.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial -days 30 \
    -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1') -out "$folder/server.pem"
  cat "$folder/server.key" "$folder/server.pem" >"$folder/keystore.pem"
}

# Fills `scram` with what the storage tool is told of the users, and writes what a broker is told.
secure_properties() {
  local user plain='' module=org.apache.kafka.common.security mechanism
  for user in ${users//,/ }; do
    plain+=" user_$user=\"$user-secret\""
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      scram+=(--add-scram "$mechanism=[name=$user,password=$user-secret]")
    done
  done
  sed -e "s|@TLS@|$DIR/tls|g" -e "s|@PLAIN@|$module.plain.PlainLoginModule required$plain|" \
    "$ROOT/tests/cluster/secure.properties"
}

write_properties() {
  local node=$1 replicas=$((nodes == 3 ? 3 : 1)) in_sync=$((nodes == 3 ? 2 : 1))
  sed -e "s|@NODE@|$node|g" -e "s|@PORT@|${ports[node]}|g" \
    -e "s|@CONTROLLER_PORT@|${controller_ports[node]}|g" -e "s|@VOTERS@|$voters|g" \
    -e "s|@DATA@|$DIR/data-$node|g" -e "s|@REPLICAS@|$replicas|g" -e "s|@IN_SYNC@|$in_sync|g" \
    "$ROOT/tests/cluster/server.properties" >"$DIR/kafka-$node.properties"
  [ "$proxied" = no ] ||
    sed -i -e "s|^listeners=.*|&,PROXIED://127.0.0.1:${proxied_ports[node]}|" \
      -e "s|^advertised.listeners=.*|&,PROXIED://127.0.0.1:${advertised_ports[node]}|" \
      -e 's|^listener.security.protocol.map=.*|&,PROXIED:PLAINTEXT|' "$DIR/kafka-$node.properties"
  [ -n "$users" ] || return 0
  sed -i -e "s|^listeners=.*|&,SASL_SSL://127.0.0.1:${secure_ports[node]}|" \
    -e "s|^advertised.listeners=.*|&,SASL_SSL://localhost:${secure_ports[node]}|" \
    -e 's|^listener.security.protocol.map=.*|&,SASL_SSL:SASL_SSL|' "$DIR/kafka-$node.properties"
  cat "$DIR/secure.properties" >>"$DIR/kafka-$node.properties"
}

start_kafka() {
  local node java voters='' bootstrap='' secure='' proxied_pairs=''
  local -a ports controller_ports secure_ports proxied_ports advertised_ports scram=()
  local -a jvm=(-Djava.awt.headless=true "-Dlog4j2.configurationFile=$ROOT/tests/cluster/log4j2.properties"
    -cp "$DIST/kafka/*")
  java=$(java_command)
  for node in $(seq "$nodes"); do
    free_port && ports[node]=$FREE_PORT
    free_port && controller_ports[node]=$FREE_PORT
    voters+=${voters:+,}$node@127.0.0.1:${controller_ports[node]}
    bootstrap+=${bootstrap:+,}127.0.0.1:${ports[node]}
    free_port && secure_ports[node]=$FREE_PORT
    secure+=${secure:+,}localhost:${secure_ports[node]}
    free_port && proxied_ports[node]=$FREE_PORT
    free_port && advertised_ports[node]=$FREE_PORT
    proxied_pairs+="${proxied_ports[node]}:${advertised_ports[node]} "
  done
  if [ -n "$users" ]; then
    make_certificates 2>"$DIR/certificates.log" || { cat "$DIR/certificates.log" >&2; return 1; }
    secure_properties >"$DIR/secure.properties"
    printf 'export KSTREAMS_TEST_SECURE_BOOTSTRAP=%q KSTREAMS_TEST_TLS=%q\n' "$secure" "$DIR/tls" >>"$DIR/env"
  fi
  for node in $(seq "$nodes"); do
    write_properties "$node"
    "$java" -Xmx128m -XX:TieredStopAtLevel=1 "${jvm[@]}" kafka.tools.StorageTool format \
      --cluster-id 4L6g3nShT-eMCtK--X86sw --config "$DIR/kafka-$node.properties" "${scram[@]}" \
      >"$DIR/format-$node.log" 2>&1 || { tail -n 20 "$DIR/format-$node.log" >&2; return 1; }
    # shellcheck disable=SC2086  # the heap options are several words
    spawn "kafka-$node" "$java" $heap -XX:+UseG1GC "${jvm[@]}" kafka.Kafka "$DIR/kafka-$node.properties"
  done
  echo "export KSTREAMS_TEST_BOOTSTRAP=$bootstrap" >>"$DIR/env"
  [ "$proxied" = no ] || printf 'export KSTREAMS_TEST_PROXIED=%q\n' "$proxied_pairs" >>"$DIR/env"
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
  printf 'export KSTREAMS_TEST_JAVA_CLASSPATH=%q KSTREAMS_TEST_CLUSTER=%q\n' "$DIST/kafka/*" "$DIR" >"$DIR/env"
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

stop() {
  [ -f "$DIR/env" ] || die "found no cluster in \"$DIR\"; it is made by \`cluster.sh start DIR\`"
  kill_all
  rm -rf "$DIR"
}

[ $# -ge 2 ] || usage
command=$1 DIR=$(realpath -m "$2") nodes=1 registry=yes users='' proxied=no owner='' process=''
shift 2
case $command in kill | revive) process=${1:?} && shift ;; esac
while [ $# -gt 0 ]; do
  case $1 in
    --nodes) nodes=${2:?} && shift ;;
    --no-registry) registry=no ;;
    --proxied) proxied=yes ;;
    --users) users=${2:?} && shift ;;
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
  kill) kill_one "$process" ;;
  revive)
    respawn "$process"
    case $process in
      kafka-*) wait_ready "$process" kafka_ready "${process#kafka-}" ;;
      *) wait_ready "$process" registry_ready ;;
    esac
    ;;
  *) usage ;;
esac
