"""What the control plane costs: the translation alone, `controller standalone` with a real Envoy, and `controller serve` beside a real
API server with many Envoys.

Milliseconds of CPU time where it says so; latencies are of the whole machine, which etcd and the API server share.
"""

import http.client
import json
import subprocess
import time

import results
from api_server import ApiServer
from results import QUICK, ROUNDS, TARGET, row
from servers import SERVER_CORE, Process, free_port, median

LOADTEST, CONTROLLER = (TARGET / "release" / name for name in ("loadtest", "controller"))
SIZES = (100, 1000) if QUICK else (1000, 3000, 10_000)


def translations(_bench):
    """In one process, with a Backend, a BackendTrafficPolicy and a SecurityPolicy for each route."""
    medians = {}
    for routes in SIZES:
        command = [LOADTEST, "translation", "--routes", str(routes), "--json"]
        reports = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(ROUNDS)]
        of = {name: median([report[name] for report in reports]) for name in reports[0]}
        largest = routes == 10_000
        row(f"{routes} routes from cold", of["cold_ms"], unit="CPU ms", bound=1000 if largest else None)
        row(f"{routes} routes, one has changed", of["route_change_ms"], unit="CPU ms", bound=50 if largest else None)
        row(f"{routes} routes, one endpoint has changed", of["endpoint_change_ms"], unit="CPU ms")
        row(f"{routes} routes, memory", of["rss_mib"], unit="MiB", bound=300 if largest else None)
        medians[routes] = of["cold_ms"] / routes
    row("growth: CPU a route, most against fewest routes", medians[SIZES[-1]], medians[SIZES[0]], unit="CPU ms", bound=1.5)


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: bench}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bench}
spec: {gatewayClassName: bench, listeners: [{name: http, protocol: HTTP, port: 80}]}
"""
ROUTE = """---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route-%(index)d}
spec:
  parentRefs: [{name: bench}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /%(index)d/%(revision)d/}}]
    backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: route-%(index)d}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: route-%(index)d}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: %(port)d}}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: route-%(index)d}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: route-%(index)d}]
  rateLimit:
    global:
      rules:
      - {clientSelectors: [{headers: [{type: Distinct, name: x-user-id}]}], limit: {requests: 1000, unit: Second}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: route-%(index)d}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: route-%(index)d}]
  cors: {allowOrigins: ["https://%(index)d.example.com"]}
"""


def files(bench):
    """`controller standalone`: from the write of a file with 100 routes to the answer of a real Envoy for the last of them."""
    routes, address, echo = 100, "127.77.7.7", free_port()
    folder = bench.place / "manifests"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(GATEWAY)

    def write(revision):
        texts = [ROUTE % {"index": index, "revision": revision, "port": echo} for index in range(routes)]
        (folder / "routes.yaml").write_text("".join(texts))

    def answers(revision):
        try:
            client = http.client.HTTPConnection(address, 10080, timeout=5)
            client.request("GET", f"/{routes - 1}/{revision}/")
            return client.getresponse().status == 200
        except OSError:
            return False

    write(0)
    controller = Process("controller", SERVER_CORE, [
        CONTROLLER, "standalone", folder, "--address", address, "--admin", "127.0.0.1:0", "--echo", f"127.0.0.1:{echo}",
        "--envoy-log", bench.place / "envoy.log",
    ])
    controller.await_condition(lambda: answers(0))
    times, cpu = [], []
    for revision in range(1, 4 * ROUNDS):
        before, began = controller.cpu_ms(), time.monotonic()
        write(revision)
        while not answers(revision):
            if time.monotonic() - began > 30:
                raise RuntimeError("a changed file is not in force after 30 seconds")
            time.sleep(0.002)
        times.append((time.monotonic() - began) * 1000)
        cpu.append(controller.cpu_ms() - before)
    row("a changed file of 100 routes is in force", median(times), unit="ms", bound=200)
    row("a changed file of 100 routes: the slowest", max(times), unit="ms")
    row("a changed file of 100 routes: CPU of the controller", median(cpu), unit="CPU ms")
    controller.child.terminate()
    controller.child.wait()


def envoys(_bench):
    """From the write at the API server to the acknowledgements of ten Envoys, and memory while much changes."""
    server = ApiServer(CONTROLLER)
    xds = free_port()
    controller = Process("controller", SERVER_CORE, [
        CONTROLLER, "serve", "--insecure", "--kubeconfig", server.kubeconfig, "--namespace", "default", "--debug", "127.0.0.1:0",
        "--xds", f"127.0.0.1:{xds}", "--rate-limit-xds", "127.0.0.1:0", "--admin", "127.0.0.1:0",
    ])

    def load(routes, change, rate, seconds):
        command = [
            LOADTEST, "xds", f"http://127.0.0.1:{xds}", "--kubeconfig", server.kubeconfig, "--pid", str(controller.child.pid),
            "--routes", str(routes), "--envoys", "10", "--rate", str(rate), "--duration", str(seconds), "--change", change,
            "--json",
        ]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    for routes in (100,) if QUICK else (100, 1000):
        for change, bound in (("route", 1000), ("endpoint", 100)):
            report = load(routes, change, 2, 10 if QUICK else 60)
            row(f"{routes} routes, change of one {change}: p50", report[change]["p50"], unit="ms")
            row(f"{routes} routes, change of one {change}: p99", report[change]["p99"], unit="ms", bound=bound)
            row(f"{routes} routes, change of one {change}: sent to an Envoy", report["bytes_a_change"] / 1000, unit="kB")
            row(f"{routes} routes, change of one {change}: controller", report["cpu_ms_a_change"], unit="CPU ms")
        report = load(routes, "both", 50, 10 if QUICK else 600)
        memory = [moment["mib"] for moment in report["memory"]]
        row(f"{routes} routes, 50 changes a second: p99 of routes", report["route"]["p99"], unit="ms", bound=1000)
        row(f"{routes} routes, 50 changes a second: p99 of endpoints", report["endpoint"]["p99"], unit="ms")
        row(f"{routes} routes, 50 changes a second: lost", report["lost"], unit="changes")
        row(f"{routes} routes, 50 changes a second: memory at the end, in the middle", memory[-1], memory[len(memory) // 2],
            unit="MiB", bound=1.1)
    controller.end()
    server.end()


CASES = (translations, files, envoys)

if __name__ == "__main__":
    results.main("xds", ["controller", "loadtest"], CASES)
