# shellcheck shell=bash
# Processes in the background of a script, and waiting for them. Sourced after common.sh by scripts that have set DIR: the folder
# of their process ids (NAME.pid) and logs (NAME.log).

READY_SECONDS=120
# Ports given out by `free_port` so far.
taken=''

# A port on which nothing answers, below the range from which the system gives out its own.
free_port() {
  local port
  while :; do
    port=$((10000 + RANDOM % 20000))
    [[ " $taken " == *" $port "* ]] && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  taken+=" $port"
  # shellcheck disable=SC2034  # for whoever sourced this
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
  printf '%q ' "$@" >"$DIR/$name.command"
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

# Whether GET PATH at ADDRESS is answered by 200: http_ok ADDRESS PATH.
http_ok() {
  local status
  {
    exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    read -r -t 5 status <&3 || status=
    exec 3>&-
  } 2>/dev/null
  [[ $status == *' 200 '* ]]
}

# Whether the process of a pid file runs and is not this one: a watching process becomes the one that stops in the end.
alive_other() { [ "$(cat "$1")" != $$ ] && alive "$1"; }

# Data is thrown away, so nothing is gained by an orderly shutdown: SIGKILL, then wait. Each process leads a group of its own, which
# goes with it.
kill_all() {
  local file
  for file in "$DIR"/*.pid; do
    if [ -f "$file" ] && alive_other "$file"; then kill -KILL -- "-$(cat "$file")" 2>/dev/null || :; fi
  done
  for file in "$DIR"/*.pid; do
    while [ -f "$file" ] && alive_other "$file"; do sleep 0.05; done
  done
}

# kill_one NAME: as `kill_all`, for one of them.
kill_one() {
  alive "$DIR/$1.pid" || die "found no process \"$1\" in \"$DIR\""
  kill -KILL -- "-$(cat "$DIR/$1.pid")"
  while alive "$DIR/$1.pid"; do sleep 0.05; done
}

# respawn NAME: starts one that has ended as it was started before.
respawn() {
  local -a command
  [ -f "$DIR/$1.command" ] || die "found no \"$1\" in \"$DIR\" that was started"
  ! alive "$DIR/$1.pid" || die "\"$1\" runs"
  eval "command=($(cat "$DIR/$1.command"))"
  spawn "$1" "${command[@]}"
}

# Sets DIR, the folder of stack.sh's processes: the one that is given, or the usual one.
stack_folder() { DIR=$(realpath -m "${1:-${KSTREAMS_CLUSTER:-$CACHE/cluster}}"); }

# As `stack_folder`, of a cluster that runs, with its environment.
running_stack() {
  stack_folder "$1"
  [ -s "$DIR/env" ] || die "found no cluster in \"$DIR\"; \`make cluster\` starts one"
  # shellcheck source=/dev/null
  source "$DIR/env"
}
