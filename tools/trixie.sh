#!/usr/bin/env bash
# trixie.sh COMMAND... | --remove   run COMMAND, on a copy of the working tree, in a root of Debian 13 (R 4.5, Seurat 5, NumPy 2) in .trixie
# The root is made once and keeps what COMMANDs install. Ends with status 3, after saying what is needed, where it cannot be had.
# A COMMAND has mounts and processes of its own, which end with it: nobody else ever sees anything mounted in .trixie.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/.trixie

remove() {
  ! grep -F " $root/" /proc/mounts || { echo "somebody has mounted this in .trixie: unmount it first" >&2; exit 1; }
  rm -rf --one-file-system "$root"
}
if [[ ${1:-} = --remove ]]; then [[ ! -e $root ]] || remove; exit; fi

needs() { echo "a root of Debian 13 needs $*" >&2; exit 3; }
((EUID == 0)) || needs "root's rights: try again with sudo"
command -v apt-get >/dev/null || needs "a Debian or an Ubuntu around it, for debootstrap"
tools/apt.sh debootstrap debian-archive-keyring || exit
private=(unshare --mount --pid --fork --kill-child --)
"${private[@]}" true || needs "mounts of its own (in a container the capability SYS_ADMIN)"

if [[ ! -e $root/.made ]]; then
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -E '/debian/?$' || echo http://deb.debian.org/debian)
  mirror=${mirror%%$'\n'*} # this machine's, where it is a Debian
  echo "making .trixie of $mirror (a few minutes, some GB)"
  remove
  "${private[@]}" debootstrap --variant=minbase --include=ca-certificates,make trixie "$root" "$mirror" >/dev/null
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" # three times as fast, and what a power cut leaves can be made again
  touch "$root/.made"
fi

# Inside, the network is reached as it is from here.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
apt-config dump --no-empty Acquire | grep -v IndexTargets >"$root/etc/apt/apt.conf.d/90host"
{ echo "[global]"; python3 -m pip config list 2>/dev/null | sed -nE "s/^[^.]*\.(index-url|proxy|cert|trusted-host)='(.*)'$/\1 = \2/p" |
  awk '!seen[$1]++'; } >"$root/etc/pip.conf"
mapfile -t proxies < <(env | grep -iE '^(https?|no)_proxy=')

mkdir -p "$root/scelbo"
find "$root/scelbo" -mindepth 1 -maxdepth 1 ! -name .venv ! -name .r-lib -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - | tar -xf - -C "$root/scelbo"

exec "${private[@]}" bash -euc 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$0" "$@"' "$root" \
  env -i -C /scelbo HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  PIP_NO_CACHE_DIR=1 CI=true "${proxies[@]}" "$@"
