#!/usr/bin/env bash
# Breaks the engine, or what the simulation takes for Kafka, once for each patch in mutations/, and names the first seed that notices.
# usage: mutations.sh [NAME…]    SEEDS=1..999 PROFILE=dev
# Fails where a mutation is not caught. The patch is taken back on every way out; the tree must have no other changes to those files.
set -euo pipefail
cd "$(dirname "$0")/../.."
SEEDS=${SEEDS:-1..999} PROFILE=${PROFILE:-dev}
applied=
restore() { if [ -n "$applied" ]; then git apply -R "$applied"; applied=; fi; }
trap restore EXIT
trap 'exit 130' INT TERM HUP

missed=0
[ $# -gt 0 ] || set -- $(basename -s .patch -a tests/simulation/mutations/*.patch)
for name in "$@"; do
  patch=tests/simulation/mutations/$name.patch
  git apply "$patch"
  applied=$patch
  cargo build --quiet --profile "$PROFILE" -p simulation
  if found=$(cargo run --quiet --profile "$PROFILE" -p simulation -- --seeds "$SEEDS" --lines 0 2>/dev/null); then
    echo "$name: NOT CAUGHT by seeds $SEEDS"
    missed=1
  else
    echo "$name: $(grep -m 1 '^seed [0-9]*:' <<<"$found" | cut -c 1-150)"
  fi
  restore
done
exit $missed
