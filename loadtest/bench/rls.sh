#!/usr/bin/env bash
# What a decision of `ratelimit` costs (counters in memory, one limit) against a tonic server that answers OK without
# looking. Both servers are pinned to core 0, the load generator to core 1; five rounds of each in turn. Exits with 1
# when the CPU time of a decision is more than 1.2 times the floor's. Arguments go to `loadtest rls`: --duration 10
set -euo pipefail
cd "$(dirname "$0")/../.."

bound=1.2
grpc=28081 floor=28082

(($(nproc) >= 2)) || { echo "rls.sh: needs two cores, one for the server and one for the load" >&2; exit 1; }
cargo build --release --package ratelimit --package loadtest
bin=${CARGO_TARGET_DIR:-target}/release

dir=$(mktemp -d)
servers=()
finish() {
    kill "${servers[@]}" 2>/dev/null || true
    wait
    rm -r "$dir"
}
trap finish EXIT

mkdir "$dir/config"
cat >"$dir/config/bench.yaml" <<'YAML'
domain: bench
descriptors:
  - key: user
    rate_limit:
      unit: hour
      requests_per_unit: 1000000
YAML

taskset --cpu-list 0 "$bin/ratelimit" --backend-type memory --runtime-root "$dir" --log-level warn \
    --grpc-host 127.0.0.1 --grpc-port $grpc --host 127.0.0.1 --port 0 \
    --debug-host 127.0.0.1 --debug-port 0 --prometheus-addr 127.0.0.1:0 &
servers+=($!)
taskset --cpu-list 0 "$bin/loadtest" floor --kind tonic --listen 127.0.0.1:$floor &
servers+=($!)

for port in $grpc $floor; do
    for _ in {1..100}; do
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
        sleep 0.1
    done
    echo "rls.sh: nothing listens on port $port after 10 seconds" >&2
    exit 1
done

taskset --cpu-list 1 "$bin/loadtest" rls http://127.0.0.1:$grpc --pid "${servers[0]}" \
    --vs http://127.0.0.1:$floor --vs-pid "${servers[1]}" --max-cpu-ratio $bound --duration 3 "$@"
