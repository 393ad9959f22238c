#!/usr/bin/env bash
# Makes install.yaml from the chart with its defaults; with --check, says whether it is up to date.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh

namespace=envoy-gateway-system
file=deploy/manifests/install.yaml
helm="${HELM:-.tools/helm}"
[ -x "$helm" ] || fail "there is no $helm: run deploy/dev/helm.sh"

made="$(mktemp)"
trap 'rm -f "$made"' EXIT
{
  printf '# Made from deploy/chart by deploy/manifests/generate.sh. The CRDs are a step of their own, see deploy/chart/README.md.\n'
  printf -- '---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n' "$namespace"
  "$helm" template tollgate deploy/chart --kube-version 1.34.0 --namespace "$namespace" --set gatewayClass=eg
} >"$made"
if [ "${1:-}" = --check ]; then
  cmp -s "$made" "$file" || fail "$file is out of date: run deploy/manifests/generate.sh"
else
  cp "$made" "$file"
  chmod 644 "$file"
fi
