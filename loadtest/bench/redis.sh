#!/usr/bin/env bash
# What a decision of `ratelimit` that is counted exactly in Redis costs, and what it costs Redis.
#
#   1. against a tonic server that answers OK without looking: at most 1.2 times its CPU time;
#   2. against one that pipelines INCRBY and EXPIRE for each request: Redis should spend at most half the CPU time;
#   3. with 5 and 10 descriptors against 1: at most 1.3 and 1.6 times the CPU time.
#
# Servers are pinned to core 0; the load generator and Redis to core 1. Five rounds in turn; arguments go to `loadtest rls`:
# --duration 10. Prints tables, and ends with 1 if the first bound does not hold.
set -euo pipefail
cd "$(dirname "$0")/../.."

rls=28181 floor=28183 pipelined=28184

(($(nproc) >= 2)) || { echo "redis.sh: needs two cores, one for the servers and one for the load" >&2; exit 1; }
cargo build --release --package ratelimit --package loadtest
bin=${CARGO_TARGET_DIR:-target}/release
redis_server=${REDIS_SERVER:-redis-server}

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

taskset --cpu-list 1 "$redis_server" --port 0 --unixsocket "$dir/redis.sock" --save "" --daemonize no >/dev/null &
redis=$!
servers+=("$redis")
for _ in {1..100}; do
    [[ -S $dir/redis.sock ]] && break
    sleep 0.1
done

ratelimit() {
    taskset --cpu-list 0 "$bin/ratelimit" --backend-type redis --redis-url "$dir/redis.sock" --redis-timeout 5s \
        --runtime-root "$dir" --log-level warn --grpc-host 127.0.0.1 --grpc-port "$1" --host 127.0.0.1 --port 0 \
        --debug-host 127.0.0.1 --debug-port 0 --prometheus-addr 127.0.0.1:0 &
    servers+=($!)
}
ratelimit $rls
taskset --cpu-list 0 "$bin/loadtest" floor --kind tonic --listen 127.0.0.1:$floor >/dev/null &
servers+=($!)
taskset --cpu-list 0 "$bin/loadtest" floor --kind redis --redis "unix://$dir/redis.sock" \
    --listen 127.0.0.1:$pipelined >/dev/null &
servers+=($!)

for port in $rls $floor $pipelined; do
    for _ in {1..100}; do
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
        sleep 0.1
    done
    echo "redis.sh: nothing listens on port $port after 10 seconds" >&2
    exit 1
done

load() {
    taskset --cpu-list 1 "$bin/loadtest" rls "$@" --quiet
}
compare() {
    local a=$1 b=$2
    shift 2
    load "http://127.0.0.1:$a" --vs "http://127.0.0.1:$b" --also-pid "redis=$redis" --duration 3 "$@"
}
alone() {
    load "http://127.0.0.1:$rls" --pid "${servers[1]}" --also-pid "redis=$redis" --duration 3 "$@"
}

failed=0
echo "== against a server that does not look"
compare $rls $floor --max-cpu-ratio 1.2 "$@" || failed=1
echo "== against INCRBY and EXPIRE for each request"
compare $rls $pipelined "$@"
for descriptors in 1 5 10 1 5 10 1 5 10; do
    echo "== $descriptors descriptors"
    alone --descriptors $descriptors "$@"
done
exit $failed
