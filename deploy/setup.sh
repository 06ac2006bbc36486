#!/usr/bin/env bash
# Makes the virtual environment with exactly the locked dependencies; a line per part, with its time.
set -euo pipefail
python="$1" venv="$2"
part="$(dirname "$0")/part.sh"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "modelrollout needs Python 3.11 or newer; $python is $("$python" --version)" >&2; exit 1; }
"$python" -c 'import ensurepip' 2>/dev/null \
  || { echo "$python cannot make virtual environments: install the package python3-venv" >&2; exit 1; }
echo "setting up $venv"
[ -x "$venv/bin/python" ] || "$part" "virtual environment" "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"$part" "locked dependencies (the first time: a minute)" "${pip[@]}" --require-hashes -r requirements-dev.lock
"$part" "modelrollout itself, editable" "${pip[@]}" --no-deps --no-build-isolation --editable .
