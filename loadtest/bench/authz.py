#!/usr/bin/env python3
"""Measures `extauth` case by case beside the no-op tonic floor of `loadtest`, and prints one table.

Checks are of 1.9 kB, with fifteen headers and a token of 1 kB. Servers run on core 0, the load generator and Redis on core 1, over
4 HTTP/2 connections; those that are compared are loaded in turn, and figures are medians. `quick` as an argument takes
a minute or two and is not to be relied upon. Results: target/bench/authz.json and authz.svg.
"""

import subprocess

import results
from results import QUICK, ROUNDS, row
from servers import cpu, median

# More than can be asked for in one run.
TOKENS = 40_000 if QUICK else 80_000


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


CASES = (api_keys, tokens_seen_before, tokens_never_seen)

if __name__ == "__main__":
    results.main("authz", ["extauth", "loadtest"], CASES)
