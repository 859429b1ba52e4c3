#!/usr/bin/env bash
# Checks what the machine has to bring for a full build and the lab, and installs the Debian packages among it when it
# may. Names everything that is missing, one line each, with the remedy.
#
#   machine.sh [build | cluster]  build: only what compiling needs; cluster: what the pods of a cluster need as well
set -euo pipefail

packages=(build-essential pkg-config libssl-dev libsasl2-dev zlib1g-dev)
missing=0

miss() { # what, remedy
  echo "missing: $1. $2" >&2
  missing=1
}

at_least() { # wanted, found
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" = "$1" ]
}

absent=()
if command -v dpkg-query >/dev/null; then
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || absent+=("$package")
  done
fi
if [ ${#absent[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    echo "installing ${absent[*]}" >&2
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy "${absent[@]}" >/dev/null
  else
    miss "Debian packages ${absent[*]}" "Run: sudo apt-get install ${absent[*]}"
  fi
fi
for tool in cc make pkg-config; do
  command -v $tool >/dev/null || miss "$tool" "Install a C toolchain with pkg-config, and the headers of OpenSSL, Cyrus SASL and zlib."
done
command -v cargo >/dev/null || miss "cargo" "Install Rust 1.95 or later: https://rustup.rs"

if [ "${1:-all}" != build ]; then
  if ! command -v go >/dev/null; then
    miss "go" "Install Go 1.26 or later: https://go.dev/dl"
  elif ! at_least 1.26 "$(go env GOVERSION | sed 's/^go//')"; then
    miss "Go 1.26 (found $(go env GOVERSION))" "Install Go 1.26 or later: https://go.dev/dl"
  fi
  if ! command -v javac >/dev/null || ! command -v java >/dev/null; then
    miss "a JDK" "Install JDK 17 or later: apt-get install openjdk-17-jdk-headless"
  elif ! at_least 17 "$(javac -version 2>&1 | sed 's/^javac //')"; then
    miss "JDK 17 (found $(javac -version 2>&1))" "Install JDK 17 or later: apt-get install openjdk-17-jdk-headless"
  fi
  command -v mvn >/dev/null || miss "mvn" "Install Maven 3.8 or later: apt-get install maven"
  python=$(command -v python3.11 || command -v python3 || true)
  if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    miss "Python 3.11" "Install Python 3.11: apt-get install python3.11 python3.11-venv"
  elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    miss "Python's venv module" "Run: apt-get install python3-venv"
  fi
  command -v openssl >/dev/null || miss "openssl" "Run: apt-get install openssl"
  command -v flock >/dev/null || miss "flock" "Install util-linux."
fi

if [ "${1:-all}" = cluster ]; then
  for tool in unshare nsenter setpriv mountpoint; do
    command -v $tool >/dev/null || miss "$tool" "Install util-linux."
  done
  if ! unshare --mount true 2>/dev/null; then
    miss "the right to make mount namespaces, which pods run in" "Run as root, in a container with CAP_SYS_ADMIN."
  fi
fi
exit $missing
