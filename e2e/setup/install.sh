#!/usr/bin/env bash
# Installs what the lab runs, below $TIDEWATER_CACHE, and prints `part=folder` for each part.
#
#   install.sh [part or group ...]
#
#     servers (default)          kafka iceberg-rest go-tools readers ministack
#     cluster                    kubernetes helm promtool
#
# A part's folder is named by the hash of its pin files: a second run finds it and does nothing, a changed pin makes a
# new one, and checkouts with different pins do not disturb each other. Everything fetched is checked against hashes in
# this folder. Progress goes to stderr.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TIDEWATER_CACHE:-$HOME/.cache/tidewater}
mkdir -p "$cache"

pins() {
  case $1 in
    kafka) echo kafka/pom.xml kafka/SHA256SUMS kafka/log4j2.properties kafka/format.properties ;;
    iceberg-rest) echo iceberg-rest/pom.xml iceberg-rest/SHA256SUMS iceberg-rest/LoopbackRestServer.java ;;
    go-tools | kubernetes | helm | promtool) echo $1/go.mod $1/go.sum $1/tools.go ;;
    readers) echo requirements-readers.txt ;;
    ministack) echo requirements-ministack.txt ;;
    *) echo "install.sh: no part '$1'" >&2; exit 2 ;;
  esac
}

jars() { # part, folder: the runtime closure of its pom, every jar checked and none besides
  mvn -q -B -f "$here/$1/pom.xml" -DoutputDirectory="$2/libs" -DincludeScope=runtime \
    org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies >&2
  (cd "$2/libs" && sha256sum --quiet --strict -c "$here/$1/SHA256SUMS") >&2
  if ! diff <(awk '{print $2}' "$here/$1/SHA256SUMS" | sort) <(ls "$2/libs" | sort) >&2; then
    echo "install.sh: $1: jars differ from SHA256SUMS" >&2
    return 1
  fi
}

venv() { # part, folder
  local python
  python=$(command -v python3.11 || command -v python3)
  "$python" -m venv "$2" >&2
  "$2/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    -r "$here/requirements-$1.txt" >&2
}

program() { # part, file, package, [flags]: builds what go.mod pins; every module is checked against go.sum
  (cd "$here/$1" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false "${@:4}" -o "$2" "$3") >&2
}

version_of() { # part, module: the release that go.mod pins
  (cd "$here/$1" && GOFLAGS=-mod=readonly go list -m -f '{{.Version}}' "$2")
}

control_plane() { # folder
  local version flags name
  version=$(version_of kubernetes k8s.io/kubernetes)
  # A release knows its own version only from the linker.
  flags="-s -w"
  for name in gitVersion=$version gitMajor=1 gitMinor=$(cut -d. -f2 <<<"$version") gitTreeState=clean; do
    flags+=" -X k8s.io/component-base/version.$name"
  done
  for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
    program kubernetes "$1/$name" "k8s.io/kubernetes/cmd/$name" -tags grpcnotrace -ldflags "$flags"
  done
  program kubernetes "$1/etcd" go.etcd.io/etcd/server/v3 -tags grpcnotrace -ldflags "-s -w"
}

build() { # part, folder
  local version
  case $1 in
    kafka)
      jars kafka "$2"
      cp "$here/kafka/log4j2.properties" "$2/"
      # An empty formatted log folder to copy: saves a JVM start, 1.5 s, for each broker.
      sed "s|^log.dirs=.*|log.dirs=$2/formatted|" "$here/kafka/format.properties" >"$2/format.properties"
      java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$2/libs/*" \
        kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c "$2/format.properties" >&2
      ;;
    iceberg-rest)
      jars iceberg-rest "$2"
      javac -nowarn --release 17 -cp "$2/libs/*" -d "$2/classes" "$here/iceberg-rest/LoopbackRestServer.java" >&2
      ;;
    go-tools)
      program go-tools "$2/versitygw" github.com/versity/versitygw/cmd/versitygw
      program go-tools "$2/toxiproxy-server" github.com/Shopify/toxiproxy/v2/cmd/server
      ;;
    kubernetes) control_plane "$2" ;;
    helm)
      version=$(version_of helm helm.sh/helm/v3)
      program helm "$2/helm" helm.sh/helm/v3/cmd/helm -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$version"
      ;;
    promtool)
      # Without the clouds that a server looks for targets in.
      program promtool "$2/promtool" github.com/prometheus/prometheus/cmd/promtool -tags remove_all_sd -ldflags "-s -w"
      ;;
    readers | ministack) venv "$1" "$2" ;;
  esac
}

install() { # part
  local part=$1 hash folder started
  hash=$(cd "$here" && cat $(pins "$part") | sha256sum | cut -c1-12)
  folder=$cache/$part-$hash
  if [ ! -e "$folder/.installed" ]; then
    exec 9>"$cache/$part.lock"
    flock 9
    if [ ! -e "$folder/.installed" ]; then
      started=$SECONDS
      echo "lab: installing $part into $folder" >&2
      rm -rf "$folder"
      mkdir -p "$folder"
      build "$part" "$folder"
      touch "$folder/.installed"
      echo "lab: $part took $((SECONDS - started)) s" >&2
    fi
    exec 9>&-
  fi
  echo "$part=$folder"
}

[ $# -gt 0 ] || set -- servers
for name; do
  case $name in
    servers) parts=(kafka iceberg-rest go-tools readers ministack) ;;
    cluster) parts=(kubernetes helm promtool) ;;
    *) parts=("$name") ;;
  esac
  for part in "${parts[@]}"; do install "$part"; done
done
