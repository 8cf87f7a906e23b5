# shellcheck shell=bash
# Programs of others that the tests talk to. Sourced after common.sh. Each is fetched once per
# version into the cache; a lock lets two runs share the work.

# Sets DIST, the folder with `kafka/*.jar` and `registry/`, fetched from Maven Central.
fetch_services() {
  local pom=$ROOT/tests/cluster/pom.xml
  DIST=$CACHE/dist/$(content_id "$pom")
  mkdir -p "$CACHE/dist"
  exec 9>"$CACHE/dist/lock"
  flock 9
  if [ ! -d "$DIST" ]; then
    say 'fetching Kafka and the schema registry with Maven'
    rm -rf "$DIST.part"
    supervise mvn --batch-mode --quiet --file "$pom" generate-resources "-Ddist=$DIST.part" 9>&- ||
      die 'Maven could not fetch Kafka and the registry; see its lines above'
    mv "$DIST.part" "$DIST"
  fi
  exec 9>&-
}

# Sets KSTREAMS_TEST_PYTHON, the interpreter of an environment with tests/requirements.txt.
fetch_python() {
  local requirements=$ROOT/tests/requirements.txt folder
  folder=$CACHE/python/$(content_id "$requirements")
  mkdir -p "$CACHE/python"
  exec 9>"$CACHE/python/lock"
  flock 9
  if [ ! -f "$folder/complete" ]; then
    say 'making a Python environment'
    rm -rf "$folder"
    python3 -m venv "$folder"
    supervise "$folder/bin/python" -m pip install --quiet --no-deps --requirement "$requirements" 9>&- ||
      die "pip could not install tests/requirements.txt; see its lines above"
    touch "$folder/complete"
  fi
  exec 9>&-
  export KSTREAMS_TEST_PYTHON=$folder/bin/python
}

# Sets KSTREAMS_TEST_CLICKHOUSE, Debian's server: its package unpacked, not installed, for installing it would start a service.
# setup.sh has installed what it links to.
fetch_clickhouse() {
  local folder=$CACHE/clickhouse version
  if command -v clickhouse-server >/dev/null; then
    KSTREAMS_TEST_CLICKHOUSE=$(command -v clickhouse-server)
  else
    version=$(dpkg-query --show --showformat='${Version}' clickhouse-common)
    folder=$CACHE/clickhouse/$version
    if [ ! -x "$folder/usr/sbin/clickhouse-server" ]; then
      say 'fetching ClickHouse'
      rm -rf "$folder"
      mkdir -p "$folder"
      (cd "$folder" && apt-get -qq download "clickhouse-server=$version" >/dev/null && dpkg -x clickhouse-server_*.deb .) ||
        die "apt-get could not download clickhouse-server $version"
    fi
    KSTREAMS_TEST_CLICKHOUSE=$folder/usr/sbin/clickhouse-server
  fi
  export KSTREAMS_TEST_CLICKHOUSE
}

# Sets KSTREAMS_TEST_PROMETHEUS, the folder of `prometheus` and `promtool`: Debian's package unpacked, not installed, for installing it would
# start a service. It links to nothing but the C library.
fetch_prometheus() {
  local folder version
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    KSTREAMS_TEST_PROMETHEUS=$(dirname "$(command -v prometheus)")
  else
    version=$(apt-cache policy prometheus | sed -n 's/^ *Candidate: //p')
    # shellcheck disable=SC2016  # a command to type
    [ -n "$version" ] || die 'found no package "prometheus"; try `apt-get update`'
    folder=$CACHE/prometheus/$version
    if [ ! -x "$folder/usr/bin/promtool" ]; then
      say 'fetching Prometheus'
      rm -rf "$folder"
      mkdir -p "$folder"
      (cd "$folder" && apt-get -qq download "prometheus=$version" >/dev/null && dpkg -x prometheus_*.deb . && rm -f prometheus_*.deb) ||
        die "apt-get could not download prometheus $version"
    fi
    KSTREAMS_TEST_PROMETHEUS=$folder/usr/bin
  fi
  export KSTREAMS_TEST_PROMETHEUS
}
