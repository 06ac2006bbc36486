#!/usr/bin/env bash
# Makes the virtual environment with exactly the locked dependencies; a line per part, with its time.
set -euo pipefail
python="$1" venv="$2"

part() {
  local name="$1" begun=$SECONDS
  shift
  printf '  %-44s' "$name"
  if ! "$@" >"$log" 2>&1; then
    printf 'failed\n'
    tail -n 20 "$log" >&2
    exit 1
  fi
  printf '%4d s\n' $((SECONDS - begun))
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "modelrollout needs Python 3.11 or newer; $python is $("$python" --version)" >&2; exit 1; }
"$python" -c 'import ensurepip' 2>/dev/null \
  || { echo "$python cannot make virtual environments: install the package python3-venv" >&2; exit 1; }
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
echo "setting up $venv"
[ -x "$venv/bin/python" ] || part "virtual environment" "$python" -m venv "$venv"
part "locked dependencies (first time: a minute)" "$venv/bin/python" -m pip install --quiet \
  --disable-pip-version-check --require-hashes -r requirements-dev.lock
part "modelrollout itself, editable" "$venv/bin/python" -m pip install --quiet \
  --disable-pip-version-check --no-deps --no-build-isolation --editable .
