#!/usr/bin/env bash
# venv.sh DIR FILE... -- PIP-ARGUMENT...   a virtual environment made by `pip install PIP-ARGUMENT...`
# Made once, and again when a FILE or an argument changes; otherwise it returns at once and needs no network.
set -euo pipefail

dir=$1; shift
files=()
while [[ $1 != -- ]]; do files+=("$1"); shift; done
shift

want=$({ cat "${files[@]}"; printf '%s\n' "$@"; } | cksum)
"$dir/bin/python" -c '' 2>/dev/null && [[ $(cat "$dir/.made-from" 2>/dev/null) == "$want" ]] && exit 0

# 3.11 and 3.12 come first: they are the last that the pinned NumPy below 2 has wheels for, which older reticulates need.
usable() { command -v "$1" >/dev/null && "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
find_python() { for python in python3.11 python3.12 python3.13 python3.14 python3; do usable $python && return; done; return 1; }
if ! "$dir/bin/python" -c '' 2>/dev/null; then
  find_python || { command -v apt-get >/dev/null && tools/apt.sh python3 python3-venv && find_python; } || {
    echo "scelbo needs Python 3.11 or newer with its venv module: install it, then try again" >&2
    exit 1
  }
  echo "making $dir with $($python --version)"
  $python -m venv --clear "$dir"
fi

echo "installing Python packages into $dir (a few minutes the first time)"
# the report says which files came, for `make audit`
"$dir/bin/python" -m pip install -q --disable-pip-version-check --report "$dir/.installed-$(date +%s).json" "$@"
echo "$want" >"$dir/.made-from"
