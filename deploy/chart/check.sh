#!/usr/bin/env bash
# Whether the chart is sound: it lints and renders with each set of values, and refuses values that its schema does not know.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/dev/lib.sh
helm="${HELM:-.tools/helm}"

sets=(
  ""
  "controller.gatewayNamespaceMode=true"
  "controller.watchNamespaces={a,b}"
  "controller.watchNamespaces={a,b},controller.gatewayNamespaceMode=true,controller.replicas=3"
  "rateLimit.redis.url=redis:6379,rateLimit.redis.authSecret=r,rateLimit.redis.tls=true,extauth.redis.url=redis://redis:6379,extauth.redis.authSecret=r"
  "rateLimit.enabled=false,extauth.enabled=false,certgen.enabled=false"
  "image.pullSecrets[0].name=p,controller.extraArgs={--a,--b},controller.nodeSelector.x=y,controller.podLabels.a=b,controller.podAnnotations.a=b"
  "rateLimit.env[0].name=A,rateLimit.env[0].value=b,extauth.env[0].name=A,extauth.env[0].value=b"
)
"$helm" lint --strict --quiet --kube-version 1.34.0 deploy/chart
for set in "${sets[@]}"; do
  # Each document must be an object with a kind and a name; helm itself lets through what is none.
  "$helm" template check deploy/chart --kube-version 1.34.0 --namespace ns --set "gatewayClass=eg${set:+,$set}" | python3 -c '
import re, sys
for document in re.split(r"(?m)^---$", sys.stdin.read()):
    lines = [line for line in document.splitlines() if line.strip() and not line.startswith("#")]
    if lines and not (any(line.startswith("kind: ") for line in lines) and any(line.startswith("  name: ") for line in lines)):
        sys.exit("no object: " + document[:200])' || fail "the chart does not render with $set"
done
for wrong in "controller.replica=2" "rateLimit.redis.type=CLUSTERED" "controller.replicas=many" "extauth.redis.tls=true"; do
  if "$helm" template check deploy/chart --kube-version 1.34.0 --set "$wrong" >/dev/null 2>&1; then
    fail "the chart takes $wrong"
  fi
done
