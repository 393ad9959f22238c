#!/usr/bin/env python3
"""Measures `extauth` case by case beside the no-op tonic floor of `loadtest`, and prints one table.

Checks are of 1.9 kB, with fifteen headers and a token of 1 kB. Servers run on core 0, the load generator and Redis on core 1, over
4 HTTP/2 connections; those that are compared are loaded in turn, and figures are medians. `quick` as an argument takes
a minute or two and is not to be relied upon. Results: target/bench/authz.json and authz.svg.
"""

import functools
import subprocess
import time

import results
from envoy import Listener, ext_authz, jwt_authn
from results import QUICK, ROUNDS, row
from servers import cpu, free_port, median

# More than can be asked for in one run.
TOKENS = 40_000 if QUICK else 80_000
# Those in use at a time, and those that are alive.
SESSIONS, LIVE = 1_000, 5_000 if QUICK else 20_000


def in_header(place, header, prefix="", *more):
    return ["--credentials", place / "credentials", "--header", header, "--prefix", prefix, *more]


def api_keys(bench):
    """The same for few keys and many; and what a key takes in memory, beside what the server takes without any."""
    few, many = (bench.credentials("api-key", count) for count in (1_000, 100_000))
    servers = {place: bench.extauth(place.name, place / "policies") for place in (few, many)}
    floor = bench.floor("tonic")
    reports = bench.rounds(ROUNDS, {
        few: lambda: bench.authz(servers[few], *in_header(few, "x-api-key")),
        many: lambda: bench.authz(servers[many], *in_header(many, "x-api-key")),
        floor: lambda: bench.authz(floor, *in_header(few, "x-api-key")),
    })
    for place, count in ((few, "1,000"), (many, "100,000")):
        row(f"API key, {count} keys / no-op tonic", cpu(reports[place]), cpu(reports[floor]), bound=1.1)
    bytes_a_key = (servers[many].rss() - servers[few].rss()) / 99_000
    row("memory a key, of 100,000", bytes_a_key, unit="bytes", bound=200)
    bench.end(*servers.values(), floor)


def tokens_seen_before(bench):
    """Two claims become headers, all of them metadata."""
    place = bench.credentials("rs256", 1_000)
    ours, floor = bench.extauth("tokens", place / "policies"), bench.floor("tonic")
    options = in_header(place, "authorization", "Bearer ")
    bench.authz(ours, *options, "--once", "--rate", 500, warm_up=0, seconds=1.9)
    reports = bench.rounds(ROUNDS, {
        server: (lambda server=server: bench.authz(server, *options)) for server in (ours, floor)
    })
    row("JWT seen before, 2 claims to headers / no-op tonic", cpu(reports[ours]), cpu(reports[floor]), bound=1.2)
    bench.end(ours, floor)


def tokens_never_seen(bench):
    """A server of its own for each round, so that no token was there before."""
    for kind in ("rs256", "es256"):
        place = bench.credentials(kind, TOKENS)
        floor = bench.floor("tonic")
        options = in_header(place, "authorization", "Bearer ")
        spent, floors, bare = [], [], []
        for _ in range(ROUNDS):
            ours = bench.extauth(kind, place / "policies")
            spent.append(bench.authz(ours, *options, "--once"))
            bench.end(ours)
            floors.append(bench.authz(floor, *options))
            verified = ["taskset", "--cpu-list", "0", bench.release / "loadtest", "verify", place]
            bare.append(float(subprocess.run(verified, check=True, stdout=subprocess.PIPE).stdout))
        bench.end(floor)
        # Microseconds a token are seconds for a million of them.
        bare = median(bare) / 10
        row(f"JWT never seen, {kind.upper()} / no-op tonic + 1.1 x bare verification", cpu(spent), cpu(floors) + 1.1 * bare, bound=1)
        row(f"bare verification, {kind.upper()}", bare)


def sessions(bench):
    """In Redis, with what this replica remembers for a second."""
    redis = bench.redis()
    place = bench.credentials("session", SESSIONS, redis)
    ours, floor = bench.extauth("sessions", place / "policies", redis_url=f"unix://{redis.path}"), bench.floor("tonic")
    options = in_header(place, "cookie", "session=")
    reports = bench.rounds(ROUNDS, {
        server: (lambda server=server: bench.authz(server, *options, redis=redis)) for server in (ours, floor)
    })
    row(f"session in Redis, {SESSIONS:,} in use / no-op tonic", cpu(reports[ours]), cpu(reports[floor]), bound=1.5)
    row("session in Redis: Redis' own CPU", cpu(reports[ours], "redis"))
    bench.end(floor)
    reads, began = redis.calls("get"), time.monotonic()
    bench.authz(ours, *options, warm_up=0, seconds=5)
    a_second = (redis.calls("get") - reads) / (time.monotonic() - began)
    row("session in Redis: reads a session and second", a_second / SESSIONS, unit="reads", bound=1)
    bench.end(ours, redis)


def memory_a_session(bench):
    """Of sessions that are all used, evenly: what they leave with us, and what Redis needs for them."""
    redis = bench.redis()
    before = int(redis.info("memory")["used_memory"])
    place = bench.credentials("session", LIVE, redis)
    stored = (int(redis.info("memory")["used_memory"]) - before) / LIVE
    ours = bench.extauth("sessions", place / "policies", redis_url=f"unix://{redis.path}")
    lines = (place / "credentials").read_text().splitlines(keepends=True)
    (place / "few").write_text("".join(lines[:10]))
    bench.authz(ours, "--credentials", place / "few", "--header", "cookie", "--prefix", "session=")
    few = ours.rss()
    bench.authz(ours, *in_header(place, "cookie", "session="), "--rate", 2_000, seconds=5 * bench.seconds)
    row(f"memory a live session, of {LIVE:,} at 2,000 checks/s", (ours.rss() - few) / LIVE, unit="bytes", bound=1024)
    row("Redis' memory a session", stored, unit="bytes")
    bench.end(ours, redis)


def through_envoy(bench):
    """CPU of Envoy and of what it asks, beside an Envoy that answers by itself and one that verifies tokens by itself."""
    keys, tokens = bench.credentials("api-key", 1_000), bench.credentials("rs256", 1_000)
    servers = {place: bench.extauth(place.name, place / "policies") for place in (keys, tokens)}
    jwks = (tokens / "policies" / "jwks.json").read_text()
    listeners = {
        "direct response": Listener("direct", free_port()),
        "jwt_authn": Listener("jwt", free_port(), jwt_authn(jwks, 0)),
        "jwt_authn with its cache": Listener("cached", free_port(), jwt_authn(jwks, 2_000)),
        "extauth, API key": Listener("keys", free_port(), *ext_authz("keys")),
        "extauth, JWT": Listener("tokens", free_port(), *ext_authz("tokens")),
    }
    clusters = [("keys", servers[keys].port), ("tokens", servers[tokens].port)]
    proxy = bench.envoy(list(listeners.values()), clusters)
    asked = {"extauth, API key": servers[keys], "extauth, JWT": servers[tokens]}

    def load(name):
        api_key = name == "extauth, API key"
        options = in_header(keys, "x-api-key") if api_key else in_header(tokens, "authorization", "Bearer ")
        also = {"extauth": asked[name]} if name in asked else None
        return bench.authz(listeners[name], *options, target="http", also=also)

    reports = bench.rounds(ROUNDS, {name: (lambda name=name: load(name)) for name in listeners})

    def total(name):
        return cpu(reports[name]) + (cpu(reports[name], "extauth") if name in asked else 0)

    def typical(name, *path):
        return median([functools.reduce(lambda part, key: part[key], path, report) for report in reports[name]])

    for name in listeners:
        base = None if name == "direct response" else total("direct response")
        row(f"Envoy, {name}: CPU of all", total(name), base)
        row(f"Envoy, {name}: requests a second", typical(name, "answers_per_second"), unit="req/s")
        row(f"Envoy, {name}: p50", typical(name, "latency", "p50_ms"), unit="ms")
    bench.end(proxy, *servers.values())


CASES = (api_keys, tokens_seen_before, tokens_never_seen, sessions, memory_a_session, through_envoy)

if __name__ == "__main__":
    results.main("authz", ["extauth", "loadtest"], CASES)
