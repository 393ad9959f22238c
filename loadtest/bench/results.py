"""What the cases of a bench have measured, as one table.

The unit "CPU" is CPU seconds for 100,000 decisions, user and system. A bench ends with 1 where a case cannot be measured, but not where a
bound is missed: a busy machine misses some.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time

from servers import Bench

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
QUICK = sys.argv[1:] == ["quick"]
ROUNDS, SECONDS = (3, 1) if QUICK else (5, 2)

rows = []


def row(case, ours, floor=None, unit="CPU", bound=None, ratio=None):
    """One line of the table. `bound` holds for the ratio, or without one for our figure."""
    if ratio is None and floor:
        ratio = ours / floor
    value = ratio if ratio is not None else ours
    met = None if bound is None else value <= bound
    rows.append({"case": case, "ours": ours, "floor": floor, "ratio": ratio, "unit": unit, "bound": bound, "met": met})
    print(f"       {case}: {figure(value)}", file=sys.stderr, flush=True)


def busy_seconds():
    """CPU seconds that the whole machine has worked."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def figure(value):
    return "" if value is None else f"{value:.5f}" if value < 0.005 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def table(noise):
    lines = [["Case", "", "ours", "floor", "ratio", "must reach", ""]]
    for each in rows:
        bound = "" if each["bound"] is None else f"≤ {each['bound']:g}"
        verdict = {None: "", True: "ok", False: "short"}[each["met"]]
        lines.append([each["case"], each["unit"], figure(each["ours"]), figure(each["floor"]), figure(each["ratio"]), bound, verdict])
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    text = "\n".join("| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in lines)
    unit = " CPU: seconds for 100,000 decisions." if any(each["unit"] == "CPU" for each in rows) else ""
    return f"{text}\n\nOther programs used {noise:.0%} of the machine meanwhile.{unit}"


def main(name, packages, cases):
    """Builds `packages`, measures all cases, prints the table, and writes it to target/bench under this name."""
    if os.cpu_count() < 2:
        sys.exit("bench: needs two cores, one for the servers and one for the load")
    if sys.argv[1:] not in ([], ["quick"]):
        sys.exit(f"usage: {sys.argv[0]} [quick]")
    build = ["cargo", "build", "--release", *(word for package in packages for word in ("-p", package))]
    subprocess.run(build, check=True, cwd=ROOT)
    failed = []
    began, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    with Bench(TARGET, SECONDS) as bench:
        for case in cases:
            print(f"{time.monotonic() - began:4.0f} s  {case.__name__.replace('_', ' ')}", file=sys.stderr, flush=True)
            try:
                case(bench)
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                failed.append(case.__name__)
                print(f"bench: {case.__name__} was given up: {error}", file=sys.stderr)
                bench.end()
    took = time.monotonic() - began
    noise = max(0, busy_seconds() - busy - (own_seconds() - own)) / took / os.cpu_count()
    place = TARGET / "bench"
    place.mkdir(exist_ok=True)
    what = {"rounds": ROUNDS, "seconds": SECONDS, "other_programs": noise, "rows": rows}
    (place / f"{name}.json").write_text(json.dumps(what, indent=2, ensure_ascii=False) + "\n")
    print(table(noise))
    plot = [TARGET / "release" / "loadtest", "plot", place / f"{name}.json", "--out", place / f"{name}.svg"]
    subprocess.run(plot, check=True)
    print(f"Measured in {took / 60:.0f} minutes; also in {place}/{name}.json and {name}.svg.")
    if failed:
        sys.exit(f"bench: not measured to the end: {', '.join(failed)}")
