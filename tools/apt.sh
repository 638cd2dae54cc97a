#!/usr/bin/env bash
# apt.sh PACKAGE...   install those Debian or Ubuntu packages that are not there yet (needs no network when all are)
# Ends with status 3, after saying what to install, where this machine or user cannot.
set -euo pipefail

missing=()
for package; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *" installed" ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

root=()
if ((EUID)); then
  root=(sudo); [[ -t 0 ]] || root=(sudo -n) # without a terminal nobody can type a password
fi
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >>"$log" 2>&1; }
log=$(mktemp); trap 'rm -f "$log"' EXIT

echo "installing with apt: ${missing[*]}"
if ! { apt update && apt install --no-install-recommends "${missing[@]}"; }; then
  tail -n 5 "$log" >&2
  echo "could not install them; as root:  apt-get update && apt-get install --no-install-recommends ${missing[*]@Q}" >&2
  exit 3
fi
