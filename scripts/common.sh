# shellcheck shell=bash
# Paths and functions that the other scripts share. Sourced, never run.
set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$SCRIPTS")
cd "$ROOT"

# Everything that may be built or fetched again lives outside the clone, so that clones share it.
CACHE=${KSTREAMS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kstreams}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}

# rustup installs here without always extending PATH.
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

# The java to use: JAVA_HOME where it is set, as Maven does.
java_command() { printf '%s' "${JAVA_HOME:+$JAVA_HOME/bin/}java"; }

# A name that changes with the content of a file, for caches made from it.
content_id() { sha256sum "$1" | cut -c1-12; }

# The process group of the command that `supervise` waits for; empty when there is none.
SUPERVISED=

# Runs a command in a process group of its own and returns its status. A signal to the script is
# handled at once (bash delays traps while a foreground command runs), and `end_supervised` reaches
# the whole group, grandchildren included.
supervise() {
  local status=0
  set -m
  "$@" </dev/null &
  SUPERVISED=$!
  set +m
  wait "$SUPERVISED" || status=$?
  end_supervised
  return "$status"
}

# Ends what is left of the supervised group: SIGTERM, five seconds, SIGKILL.
end_supervised() {
  local group=$SUPERVISED tries=0
  SUPERVISED=
  [ -n "$group" ] || return 0
  kill -TERM -- "-$group" 2>/dev/null || return 0
  while [ "$tries" -lt 50 ] && kill -0 -- "-$group" 2>/dev/null; do
    tries=$((tries + 1))
    sleep 0.1
  done
  kill -KILL -- "-$group" 2>/dev/null || :
  wait "$group" 2>/dev/null || :
}

# Lets Ctrl-C, SIGTERM and a closed terminal end the script through its EXIT trap.
exit_on_signals() {
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
}
