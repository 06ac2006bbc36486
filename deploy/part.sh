#!/usr/bin/env bash
# part.sh NAME COMMAND...: runs a command quietly and prints one line with its time; its output only where it fails.
set -euo pipefail
name="$1"
shift
begun=$SECONDS
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
printf '  %-52s' "$name"
if "$@" >"$log" 2>&1 </dev/null; then
  printf '%4d s\n' $((SECONDS - begun))
else
  code=$?
  printf 'failed\n'
  tail -n 60 "$log" >&2
  exit "$code"
fi
