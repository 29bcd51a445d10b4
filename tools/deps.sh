#!/bin/bash
# Installs the Debian packages that building, testing and the demo need. Says
# nothing and asks nobody when all are there.
set -euo pipefail

packages=(
  # build: race detector, patches, eBPF
  gcc libc6-dev binutils patch clang llvm libbpf-dev
  # namespaces, ports, captures
  iproute2 ethtool nftables bpftool procps kmod tcpdump tshark python3-scapy
  # peers of the system tests
  bird2 frr openbgpd exabgp gobgpd
  # traffic and checks
  iputils-ping iputils-arping iperf3 curl jq socat openssl nfdump nfdump-sflow
  # images
  qemu-system-x86 busybox-static cpio e2fsprogs xz-utils
)

missing=()
for p in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "deps: missing: ${missing[*]}" >&2
  echo "deps: run as root: make deps" >&2
  exit 1
fi

# The routing daemons are started by tests only, in namespaces: installing them
# must not start them here.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
made_policy=
cleanup() {
  rm -f "$log"
  [ -z "$made_policy" ] || rm -f "$policy"
}
trap cleanup EXIT
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  made_policy=1
fi

export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${missing[*]}"
install() {
  apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >"$log" 2>&1
}
install || { apt-get update -q >>"$log" 2>&1 && install; } || {
  cat "$log" >&2
  echo "deps: cannot install ${missing[*]}" >&2
  exit 1
}
