"""What the control plane costs: the translation alone, and `controller standalone` with a real Envoy.

Milliseconds of CPU time where it says so; latencies are of the whole machine.
"""

import http.client
import json
import subprocess
import time

import results
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


CASES = (translations, files)

if __name__ == "__main__":
    results.main("xds", ["controller", "loadtest"], CASES)
