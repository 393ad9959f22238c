#!/usr/bin/env bash
# Runs the official Gateway API suite against the cluster that $KUBECONFIG names, and leaves its report in reports/.
# The cluster needs the CRDs of the same version, a GatewayClass that is accepted, and addresses that this machine reaches.
#
#   CLASS     GatewayClass, default eg
#   CHANNEL   of the CRDs, for the report's name: experimental (default) or standard
#   MODE      default, or gateway-namespace when the controller runs so
#   USABLE, UNUSABLE   addresses for GatewayStaticAddresses, which wants both: one that a Gateway there can have (none when
#                      unset), and one that none can (a host name, by default)
#   further arguments are the suite's own flags, such as --run-test=HTTPRouteMatching --debug
set -euo pipefail
cd "$(dirname "$0")"

[ -n "${KUBECONFIG:-}" ] || { echo 'error: KUBECONFIG must name the cluster' >&2; exit 1; }
class="${CLASS:-eg}" channel="${CHANNEL:-experimental}" mode="${MODE:-default}"
version="$(go list -m -f '{{.Version}}' sigs.k8s.io/gateway-api/conformance)"
tollgate="$(sed -n 's/^appVersion: *//p' ../chart/Chart.yaml)"
report="${REPORT:-$PWD/reports/$channel-$tollgate-$mode-report.yaml}"
mkdir -p "$(dirname "$report")"

profiles=GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS,GATEWAY-TCP,GATEWAY-UDP
echo "==> Gateway API suite $version, class $class, $channel channel" >&2
exec go test -v -count=1 -timeout 60m -run TestConformance ./... -args \
  --gateway-class="$class" \
  --conformance-profiles="$profiles" \
  --cleanup-base-resources=false \
  --usable-address="${USABLE:-}" --unusable-address="${UNUSABLE:-unusable.example.com}" \
  --organization=tollgate --project=tollgate --url=https://github.com/tollgate/tollgate --version="v$tollgate" \
  --contact=tollgate --mode="$mode" --report-output="$report" "$@"
