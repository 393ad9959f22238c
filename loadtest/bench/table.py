#!/usr/bin/env python3
"""Measures `ratelimit` case by case beside the floors of `loadtest`, and prints one table.

Servers run on core 0, the load generator and Redis on core 1, over 4 HTTP/2 connections; those that are compared are loaded in
turn, and figures are medians. `quick` as an argument takes a minute or two and is not to be relied upon.
Results: target/bench/table.json and table.svg.
"""

import time

import results
from results import QUICK, ROUNDS, row
from servers import cpu, median, page_size

KEYS = 200_000 if QUICK else 1_000_000

LIMIT = "rate_limit: { unit: day, requests_per_unit: 1000000000 }"
ONE_RULE = f"domain: bench\ndescriptors:\n  - key: user\n    {LIMIT}\n"


def memory_store(bench):
    ours, tonic, h2 = bench.ratelimit("memory", bench.config("memory", ONE_RULE)), bench.floor("tonic"), bench.floor("h2")
    reports = bench.rounds(ROUNDS, {
        server.name: (lambda server=server: bench.load(server, "--concurrency", 256)) for server in (ours, tonic, h2)
    })
    cost, floor, limit = (cpu(reports[server.name]) for server in (ours, tonic, h2))
    row("memory, 256 in flight / no-op tonic", cost, floor, bound=0.85)
    row("memory, 256 in flight / bare h2 (the limit)", cost, limit)
    bench.end(h2)
    open_loop(bench, "memory", ours, tonic)
    bench.end(ours, tonic)


def open_loop(bench, kind, ours, floor, redis=None):
    """Latencies from the moment at which a request is due."""
    for rate in (2000, 5000):
        reports = bench.rounds(ROUNDS, {
            server.name: (lambda server=server: bench.load(server, "--rate", rate, redis=redis)) for server in (ours, floor)
        })
        for percentile in ("p50", "p99", "p99.9"):
            field = percentile.replace(".", "") + "_ms"
            ms = [median([report["latency"][field] for report in reports[server.name]]) for server in (ours, floor)]
            row(f"open loop, {kind}, {rate:,}/s, {percentile}", *ms, unit="ms")


def exact_on_redis(bench):
    redis = bench.redis()
    ours = bench.ratelimit("exact", bench.config("exact", ONE_RULE), redis)
    tonic, pipelined = bench.floor("tonic"), bench.floor("redis", redis)
    reports = bench.rounds(ROUNDS, {
        server.name: (lambda server=server: bench.load(server, redis=redis)) for server in (ours, tonic, pipelined)
    })
    row("exact on Redis, 64 in flight / no-op tonic", cpu(reports[ours.name]), cpu(reports[tonic.name]), bound=1.2)
    row("exact on Redis, 64 in flight / tonic with INCRBY, EXPIRE", cpu(reports[ours.name]), cpu(reports[pipelined.name]))
    row("Redis' own CPU / of INCRBY, EXPIRE", cpu(reports[ours.name], "redis"), cpu(reports[pipelined.name], "redis"), bound=0.5)
    bench.end(pipelined)
    # The same 10,000 counters each time: what more of them cost in caches is no matter of descriptors.
    reports = bench.rounds(ROUNDS, {
        count: (lambda count=count: bench.load(ours, "--descriptors", count, "--keys", 10_000 // count, redis=redis))
        for count in (1, 5, 10)
    })
    for count, bound in ((5, 1.3), (10, 1.6)):
        row(f"exact on Redis, {count} descriptors / 1", cpu(reports[count]), cpu(reports[1]), bound=bound)
    open_loop(bench, "exact on Redis", ours, tonic, redis)
    bench.end(ours, tonic, redis)


def many_rules(bench):
    """Of 10,000 values nine, or nearly all, have a rule of their own."""
    def config(count):
        own = "".join(f"  - key: user\n    value: '{number:010}.0'\n    {LIMIT}\n" for number in range(count - 1))
        return bench.config(f"{count}-rules", f"{ONE_RULE}{own}")

    roots = {count: config(count) for count in (10, 10_000)}
    servers = {count: bench.ratelimit(f"{count} rules", root) for count, root in roots.items()}
    reports = bench.rounds(ROUNDS, {
        count: (lambda server=server: bench.load(server)) for count, server in servers.items()
    })
    row("memory, 10,000 rules / 10 rules", cpu(reports[10_000]), cpu(reports[10]), bound=1.1)
    bench.end(*servers.values())
    starts = {count: [] for count in roots}
    for _ in range(7):
        for count, root in roots.items():
            server = bench.ratelimit("start", root, pause=0.0005)
            starts[count].append((server.ready_ms, server.ready_cpu_ms))
            bench.end(server)
    (many_ms, many_cpu), (few_ms, few_cpu) = ([median(column) for column in zip(*starts[count])] for count in (10_000, 10))
    row("listening after the start, 10,000 rules", many_ms, unit="ms", bound=60)
    row("CPU until then, 10,000 rules", many_cpu, unit="CPU-ms")
    row("listening after the start, 10 rules", few_ms, unit="ms")
    row("CPU until then, 10 rules", few_cpu, unit="CPU-ms")


def leases(bench):
    """Few keys are warm all the time; with 10,000 each is asked for some two times a second."""
    redis = bench.redis()
    tight = "  - key: tight\n    rate_limit: { unit: day, requests_per_unit: 100 }\n"
    ours = bench.ratelimit("leases", bench.config("leases", ONE_RULE + tight), redis, leases="true")
    tonic = bench.floor("tonic")
    bench.await_answers(ours)
    reports = bench.rounds(ROUNDS, {
        server.name: (lambda server=server: bench.load(server, "--concurrency", 256, "--keys", 100, redis=redis))
        for server in (ours, tonic)
    })
    row("leases, 100 warm keys, 256 in flight / no-op tonic", cpu(reports[ours.name]), cpu(reports[tonic.name]), bound=0.85)
    for case, options, bound in (
        ("leases, one hot key", ["--keys", 1], 0.05),
        ("leases, a key over its limit", ["--keys", 1, "--entry-key", "tight"], 0.001),
        ("leases, 10,000 keys", [], None),
    ):
        bench.load(ours, *options, seconds=1)
        time.sleep(2)  # until leases on the keys of before have been given back
        before, began = redis.calls(), time.monotonic()
        report = bench.load(ours, *options, warm_up=0)
        calls, took = redis.calls() - before, time.monotonic() - began
        before, began = redis.calls(), time.monotonic()
        time.sleep(1)
        idle = (redis.calls() - before) / (time.monotonic() - began)
        decisions = report["answers_per_second"] * report["elapsed_seconds"]
        row(f"{case}: Redis commands a decision", max(0, calls - idle * took) / decisions, unit="commands", bound=bound)
    bench.end(ours, tonic, redis)


def memory_a_key(bench):
    def fill(server, redis=None):
        """Makes counters of distinct values until there are enough: how many."""
        made = 0
        while made < KEYS:
            report = bench.load(server, "--descriptors", 20, "--keys", 2**32 - 1, redis=redis, seconds=1, warm_up=0)
            made += 20 * sum(report["verdicts"].values())
        return made

    ours = bench.ratelimit("memory", bench.config("keys", ONE_RULE), memory_max_counters=4 * KEYS)
    before = ours.rss()
    made = fill(ours)
    row(f"our memory a key, {KEYS:,} keys", (ours.rss() - before) / made, unit="bytes", bound=100)
    bench.end(ours)
    redis = bench.redis()
    ours = bench.ratelimit("exact", bench.config("redis-keys", ONE_RULE), redis)
    bench.load(ours, "--descriptors", 20, "--keys", 1)
    before = int(redis.info("memory")["used_memory"])
    made = fill(ours, redis)
    used = int(redis.info("memory")["used_memory"]) - before
    row(f"Redis' memory a key, {KEYS:,} keys", used / made, unit="bytes", bound=64)
    bench.end(ours, redis)


def many_values(bench):
    """Values of requests must not stay in our memory or on the page. Counters are in Redis, so what grows is something else."""
    detailed = ONE_RULE.replace("    rate_limit", "    detailed_metric: true\n    rate_limit")
    for case, yaml, options in (
        ("descriptor.limit", ONE_RULE, ["--own-limit", 1_000_000]), ("detailed_metric", detailed, []),
    ):
        redis = bench.redis()
        ours = bench.ratelimit(case, bench.config(case, yaml), redis)
        few = ["--keys", 2000, *options]
        many = ["--keys", 100_000, "--descriptors", 10, *options]
        bench.load(ours, *few, redis=redis, seconds=2)
        bench.load(ours, "--descriptors", 10, *few, redis=redis, seconds=2)
        rss, page = ours.rss(), page_size(ours.metrics)
        bench.load(ours, *many, redis=redis, seconds=10 if not QUICK else 3)
        row(f"{case}, 100,000 values / 2,000: RSS", ours.rss() / 2**20, rss / 2**20, unit="MiB", bound=1.1)
        row(f"{case}, 100,000 values / 2,000: metrics page", page_size(ours.metrics) / 1024, page / 1024, unit="KiB", bound=1.05)
        bench.end(ours, redis)


CASES = (memory_store, exact_on_redis, many_rules, leases, memory_a_key, many_values)


if __name__ == "__main__":
    results.main("table", ["ratelimit", "loadtest"], CASES)
